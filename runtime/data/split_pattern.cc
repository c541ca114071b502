#include "runtime/data/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "kernels/core/error.h"

namespace sluice {
namespace {

// White_Space of Unicode. PCRE2's own \s has U+180E too, which the other implementations do not count.
constexpr std::string_view kSpaces =
    R"(\t-\r\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// Replaces \s, and \S outside of a class, by explicit classes.
std::string with_explicit_spaces(const std::string& regex) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    if (c == '\\' && i + 1 < regex.size()) {
      const char escaped = regex[++i];
      ENSURE(!(escaped == 'S' && in_class), "split expression: \\S inside [...] is not supported: ", regex);
      if (escaped == 's') {
        out += in_class ? std::string(kSpaces) : concat("[", kSpaces, "]");
      } else if (escaped == 'S') {
        out += concat("[^", kSpaces, "]");
      } else {
        out += c;
        out += escaped;
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

const pcre2_code* code_of(const std::shared_ptr<void>& code) { return static_cast<const pcre2_code*>(code.get()); }

}  // namespace

const char* const kGpt2Regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const char* const kCl100kRegex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kO200kRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwenRegex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

SplitPattern::SplitPattern(const std::string& regex) : regex_(regex) {
  const std::string expression = with_explicit_spaces(regex);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  ENSURE(code, "split expression: ", message_of(error), " at offset ", offset, " of ", expression);
  code_ = std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  jit_ = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
}

Splitter::Splitter(const SplitPattern& pattern) : code_(pattern.code_), jit_(pattern.jit_) {
  match_data_ = std::shared_ptr<void>(pcre2_match_data_create_from_pattern(code_of(code_), nullptr),
                                      [](void* p) { pcre2_match_data_free(static_cast<pcre2_match_data*>(p)); });
}

Splitter::Match Splitter::find(std::string_view text, size_t from) {
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  auto* data = static_cast<pcre2_match_data*>(match_data_.get());
  // The caller has validated the text; checking it again at every word would be quadratic.
  constexpr uint32_t kOptions = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (jit_) found = pcre2_jit_match(code_of(code_), subject, text.size(), from, kOptions, data, nullptr);
  // The interpreter keeps its stack on the heap.
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code_of(code_), subject, text.size(), from, kOptions | PCRE2_NO_JIT, data, nullptr);
  }
  if (found == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
  ENSURE(found > 0, "split expression: ", message_of(found), " at byte ", from, " of a text of ", text.size());
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
  ENSURE(range[0] >= from && range[1] > range[0], "split expression: \\K is not supported");
  return {range[0], range[1]};
}

}  // namespace sluice
