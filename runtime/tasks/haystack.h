#pragma once

#include <set>
#include <string>

#include "runtime/data/indexed_dataset.h"
#include "runtime/data/tokenizer.h"
#include "runtime/tasks/draws.h"

namespace sluice {

/// Made-up names and values, none of them twice.
class Names {
 public:
  explicit Names(Draws& draws) : draws_(draws) {}

  /// A pronounceable word of two to three syllables, in no language.
  std::string word();
  /// The same in capitals.
  std::string variable();
  /// Seven digits.
  std::string number();
  /// 32 hexadecimal digits in five groups.
  std::string uuid();

 private:
  template <class Make>
  std::string fresh(const Make& make);

  Draws& draws_;
  std::set<std::string> taken_;
};

/// The text of a data set from the beginning of a drawn document on, a sentence at a time; the set's beginning follows
/// its end.
class TextSentences {
 public:
  /// Both must outlive it.
  TextSentences(const IndexedDataset& set, const Tokenizer& tokenizer, Draws& draws);

  /// With the white space before it; never empty.
  std::string next();

 private:
  void read_more();

  const IndexedDataset& set_;
  const Tokenizer& tokenizer_;
  int64_t token_;
  std::string text_;  ///< read, not yet handed out
};

/// Throws Error naming file, place and id of a token that the tokenizer lacks; the vocabulary of a model may have more.
void check_text(const IndexedDataset& set, const Tokenizer& tokenizer);

/// Where the first sentence of a text ends: behind a full stop, question or exclamation mark before white space, behind
/// a Chinese one, or before a line break; after 600 bytes at white space, after 1200 behind the character at 600. npos
/// when it goes on. Never 0.
size_t sentence_end(std::string_view text);

}  // namespace sluice
