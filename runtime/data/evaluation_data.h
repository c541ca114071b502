#pragma once

#include <cstdint>
#include <string>

#include "runtime/data/batch.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/tokenizer.h"

namespace sluice {

/// A held-out set as consecutive windows of `length` tokens that do not overlap. Every token but a document's first is
/// a target of exactly one window; the last window is filled up without targets.
class EvaluationData {
 public:
  EvaluationData(const std::string& prefix, int64_t length, int64_t vocab_size);

  const IndexedDataset& set() const { return set_; }
  int64_t windows() const { return windows_; }
  /// Fills `batch` with windows [first, first + count), all below windows().
  void read(int64_t first, int64_t count, Batch& batch) const;

 private:
  IndexedDataset set_;
  int64_t length_, vocab_size_, windows_;
};

/// Bytes of text behind the tokens of a set, for data without PREFIX.meta.json; the end of a document has none.
int64_t count_text_bytes(const IndexedDataset& set, const Tokenizer& tokenizer);

}  // namespace sluice
