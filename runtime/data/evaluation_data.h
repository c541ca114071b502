#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "runtime/data/batch.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/tokenizer.h"

namespace sluice {

/// A held-out set as consecutive windows of `length` tokens, or of the whole set where it is shorter, that do not
/// overlap. Every token but a document's first is a target of exactly one window; the last window is filled up without
/// targets.
class EvaluationData {
 public:
  EvaluationData(const std::string& prefix, int64_t length, int64_t vocab_size);

  const IndexedDataset& set() const { return set_; }
  /// Tokens of a window.
  int64_t length() const { return length_; }
  int64_t windows() const { return windows_; }
  /// How many of them an evaluation limited to `most` reads; 0: no limit.
  int64_t windows_read(int64_t most) const { return most > 0 ? std::min(most, windows_) : windows_; }
  /// Reads the tokens of the first `windows` windows. Throws Error naming the first that is not in the vocabulary.
  void check_ids(int64_t windows) const;
  /// Fills `batch` with windows [first, first + count), all below windows(). The last window ends where the set does.
  void read(int64_t first, int64_t count, Batch& batch) const;

 private:
  IndexedDataset set_;
  int64_t length_, vocab_size_, windows_;
};

/// Bytes of text behind the tokens of a set, for data without PREFIX.meta.json; the end of a document has none.
int64_t count_text_bytes(const IndexedDataset& set, const Tokenizer& tokenizer);

}  // namespace sluice
