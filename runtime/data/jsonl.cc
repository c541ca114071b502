#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/data/corpus.h"
#include "runtime/files/json_depth.h"
#include "runtime/files/utf8.h"

namespace sluice {
namespace {

// The JSON parser takes valid UTF-8 only, so a stray byte b passes through it as the private character U+10FF00 + b,
// whose encoding begins with these bytes.
constexpr std::string_view kStrayPrefix = "\xF4\x8F\xBC";

std::string stray_character(unsigned char b) {
  return {'\xF4', '\x8F', static_cast<char>(0xBC | b >> 6), static_cast<char>(0x80 | (b & 0x3F))};
}

std::string hide_stray_bytes(std::string_view line) {
  std::string valid;
  while (!line.empty()) {
    const size_t prefix = valid_utf8_prefix(line);
    valid += line.substr(0, prefix);
    line.remove_prefix(prefix);
    if (line.empty()) break;
    valid += stray_character(static_cast<unsigned char>(line[0]));
    line.remove_prefix(1);
  }
  return valid;
}

bool is_stray(std::string_view s) {
  return s.size() >= 4 && s[0] == kStrayPrefix[0] && s[1] == kStrayPrefix[1] &&
         static_cast<unsigned char>(s[2]) >= static_cast<unsigned char>(kStrayPrefix[2]);
}

std::string restore_stray_bytes(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool stray = is_stray(text.substr(i, 4));
    bytes += stray ? static_cast<char>((text[i + 2] & 3) << 6 | (text[i + 3] & 0x3F)) : text[i];
    if (stray) i += 3;
  }
  return bytes;
}

std::string parse_text(const std::string& line, const std::string& where) {
  nlohmann::json object = nlohmann::json::parse(line, depth_limit(where), false);
  ENSURE(object.is_object(), where, ": expected a JSON object, got ", line.substr(0, 60));
  const auto text = object.find("text");
  ENSURE(text != object.end() && text->is_string(), where, ": text: expected a string, ",
         text == object.end() ? "the field is missing" : std::string("got ") + text->type_name());
  return std::move(text->get_ref<std::string&>());
}

}  // namespace

std::string text_of_json(const std::string& line, const std::string& where) {
  if (valid_utf8_prefix(line) == line.size()) return parse_text(line, where);
  const bool ambiguous = line.find("\\udbff") != std::string::npos || line.find("\\uDBFF") != std::string::npos ||
                         line.find(kStrayPrefix.substr(0, 2)) != std::string::npos;
  ENSURE(!ambiguous, where, ": bytes that are not UTF-8 beside characters of the last private plane are not supported");
  return restore_stray_bytes(parse_text(hide_stray_bytes(line), where));
}

}  // namespace sluice
