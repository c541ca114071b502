#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace sluice {

/// The regular expression that cuts text into words before byte-pair merging. Compiled once, shared by threads.
class SplitPattern {
 public:
  /// Throws Error with the place in the expression when it cannot be compiled.
  explicit SplitPattern(const std::string& regex);
  const std::string& regex() const { return regex_; }

 private:
  friend class Splitter;
  std::string regex_;
  std::shared_ptr<void> code_;
  bool jit_ = false;
};

/// One thread's use of a SplitPattern.
class Splitter {
 public:
  explicit Splitter(const SplitPattern& pattern);

  /// Calls word(piece) for the matches and for what lies between them: the pieces add up to `text`, which must be valid
  /// UTF-8. Throws Error when matching exceeds PCRE2's limits.
  template <class F>
  void split(std::string_view text, const F& word) {
    size_t begin = 0;
    while (begin < text.size()) {
      const Match match = find(text, begin);
      if (match.begin > begin) word(text.substr(begin, match.begin - begin));
      if (match.end > match.begin) word(text.substr(match.begin, match.end - match.begin));
      begin = match.end;
    }
  }

 private:
  struct Match {
    size_t begin, end;
  };
  // The next match that is not empty, or the end of the text.
  Match find(std::string_view text, size_t from);

  std::shared_ptr<void> code_, match_data_;
  bool jit_;
};

/// Split expressions of known vocabularies.
extern const char* const kGpt2Regex;
extern const char* const kCl100kRegex;
extern const char* const kO200kRegex;
extern const char* const kQwenRegex;

}  // namespace sluice
