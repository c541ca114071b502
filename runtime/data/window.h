#pragma once

#include "runtime/data/batch.h"
#include "runtime/data/indexed_dataset.h"

namespace sluice {

/// Appends batch.length tokens of `set` from token `first` on, and the tokens that follow them as targets, to a batch
/// that was started. A target that begins another document is excluded. Behind the end of the set the sequence is
/// filled with token 0, as a document of its own without targets. Ids are checked against `vocab_size`.
void append_window(const IndexedDataset& set, int64_t first, int64_t vocab_size, Batch& batch);

/// Targets of that window, without reading its tokens.
int64_t count_targets(const IndexedDataset& set, int64_t first, int64_t length);

}  // namespace sluice
