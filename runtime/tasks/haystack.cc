#include "runtime/tasks/haystack.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/core/error.h"

namespace sluice {
namespace {

constexpr int64_t kTokensAtATime = 256;
constexpr size_t kLongestSentence = 600;  // bytes; longer ones are cut at white space

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/// The full stop, question and exclamation mark of Chinese and Japanese, in UTF-8.
bool is_wide_mark(std::string_view bytes) {
  return bytes == "\xe3\x80\x82" || bytes == "\xef\xbc\x9f" || bytes == "\xef\xbc\x81";
}

std::string repeat(int count, const auto& make) {
  std::string text;
  for (int i = 0; i < count; ++i) text += make();
  return text;
}

}  // namespace

template <class Make>
std::string Names::fresh(const Make& make) {
  for (;;) {
    const std::string name = make();
    if (taken_.insert(name).second) return name;
  }
}

std::string Names::word() {
  constexpr std::string_view kConsonants = "bdfgklmnprstvz", kVowels = "aeiou";
  const auto of = [&](std::string_view letters) {
    return letters[static_cast<size_t>(draws_.below(static_cast<int64_t>(letters.size())))];
  };
  return fresh([&] {
    std::string word = repeat(2 + static_cast<int>(draws_.below(2)), [&] {
      const char consonant = of(kConsonants);
      return std::string{consonant, of(kVowels)};
    });
    return word + of(kConsonants);
  });
}

std::string Names::variable() {
  std::string name = word();
  for (char& c : name) c = static_cast<char>(c - 'a' + 'A');
  return name;
}

std::string Names::number() {
  return fresh([&] { return std::to_string(1000000 + draws_.below(9000000)); });
}

std::string Names::uuid() {
  const auto digits = [&](int count) { return repeat(count, [&] { return "0123456789abcdef"[draws_.below(16)]; }); };
  return fresh([&] {
    std::string text = digits(8);
    for (int count : {4, 4, 4, 12}) text += "-" + digits(count);
    return text;
  });
}

size_t sentence_end(std::string_view text) {
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\n') return i;
    const char before = text[i - 1];
    if ((before == '.' || before == '?' || before == '!') && is_space(text[i])) return i;
    if (i >= 3 && is_wide_mark(text.substr(i - 3, 3))) return i;
    if (i >= kLongestSentence && is_space(text[i])) return i;
  }
  if (text.size() <= 2 * kLongestSentence) return std::string_view::npos;
  size_t end = kLongestSentence;
  while (end > 1 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return end;
}

void check_text(const IndexedDataset& set, const Tokenizer& tokenizer) {
  constexpr int64_t kBlock = 1 << 16;
  const std::vector<bool> present = tokenizer.present();
  std::vector<int32_t> ids;
  for (int64_t begin = 0; begin < set.tokens(); begin += kBlock) {
    ids.resize(static_cast<size_t>(std::min(kBlock, set.tokens() - begin)));
    set.read(begin, static_cast<int64_t>(ids.size()), std::numeric_limits<int64_t>::max(), ids.data());
    const auto lacking = std::find_if_not(ids.begin(), ids.end(), [&](int32_t id) {
      return id >= 0 && id < tokenizer.vocab_size() && present[static_cast<size_t>(id)];
    });
    ENSURE(lacking == ids.end(), set.prefix(), ".bin: token ", begin + (lacking - ids.begin()), ": id ", *lacking,
           " is not in the tokenizer's vocabulary of ", tokenizer.vocab_size(), "; tasks need the text behind it");
  }
}

TextSentences::TextSentences(const IndexedDataset& set, const Tokenizer& tokenizer, Draws& draws)
    : set_(set), tokenizer_(tokenizer), token_(set.document_start(set.document_of(draws.below(set.tokens())))) {}

void TextSentences::read_more() {
  std::vector<int32_t> ids(static_cast<size_t>(std::min(kTokensAtATime, set_.tokens() - token_)));
  set_.read(token_, static_cast<int64_t>(ids.size()), tokenizer_.vocab_size(), ids.data());
  token_ = (token_ + static_cast<int64_t>(ids.size())) % set_.tokens();
  for (auto begin = ids.begin();;) {
    const auto end = std::find(begin, ids.end(), tokenizer_.eod());
    text_ += tokenizer_.decode({begin, end});
    if (end == ids.end()) return;
    text_ += '\n';
    begin = end + 1;
  }
}

std::string TextSentences::next() {
  size_t end = sentence_end(text_);
  while (end == std::string::npos) {
    read_more();
    end = sentence_end(text_);
  }
  const std::string sentence = text_.substr(0, end);
  text_.erase(0, end);
  return sentence;
}

}  // namespace sluice
