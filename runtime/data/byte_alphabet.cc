#include "runtime/data/byte_alphabet.h"

#include <array>

namespace sluice {
namespace {

constexpr int kCodePoints = 256 + 68;

struct Alphabet {
  std::array<int, 256> code_point{};
  std::array<int, kCodePoints> byte{};

  constexpr Alphabet() {
    byte.fill(-1);
    int next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      code_point[static_cast<size_t>(b)] = printable ? b : next++;
      byte[static_cast<size_t>(code_point[static_cast<size_t>(b)])] = b;
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

std::string bytes_to_printable(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    const int code = kAlphabet.code_point[static_cast<unsigned char>(c)];
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else {
      text += static_cast<char>(0xC0 | code >> 6);
      text += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return text;
}

std::optional<std::string> printable_to_bytes(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = static_cast<unsigned char>(text[i]);
    if (code >= 0x80) {
      if ((code & 0xE0) != 0xC0 || i + 1 == text.size()) return std::nullopt;
      code = (code & 0x1F) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F);
    }
    if (code >= kCodePoints || kAlphabet.byte[static_cast<size_t>(code)] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[static_cast<size_t>(code)]);
  }
  return bytes;
}

}  // namespace sluice
