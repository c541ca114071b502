#include "runtime/data/window.h"

#include <algorithm>
#include <numeric>

namespace sluice {
namespace {

// Calls boundary(token) for every token of (first, first + length] that begins a document, each once.
template <class F>
void for_each_boundary(const IndexedDataset& set, int64_t first, int64_t length, const F& boundary) {
  const int64_t last = std::min(first + length, set.tokens() - 1);
  int64_t previous = first;
  for (int64_t d = set.document_of(first) + 1; d < set.documents(); ++d) {
    const int64_t start = set.document_start(d);
    if (start > last) return;
    if (start > previous) boundary(start);
    previous = start;
  }
}

// Ends the current document at `end` tokens into the batch.
void close_document(Batch& batch, int64_t end) {
  const auto from = batch.document_offsets.back();
  const auto to = static_cast<int32_t>(end);
  if (to == from) return;
  std::iota(batch.positions.begin() + from, batch.positions.begin() + to, 0);
  batch.document_offsets.push_back(to);
}

}  // namespace

void Batch::start(int64_t count, int64_t tokens_each) {
  sequences = count;
  length = tokens_each;
  target_count = 0;
  const auto total = static_cast<size_t>(count * tokens_each);
  for (std::vector<int32_t>* v : {&tokens, &targets, &positions}) {
    v->reserve(total + 1);
    v->clear();
  }
  document_offsets.reserve(total + 1);
  document_offsets.assign(1, 0);
}

void append_window(const IndexedDataset& set, int64_t first, int64_t vocab_size, Batch& batch) {
  const auto begin = static_cast<int64_t>(batch.tokens.size());
  const int64_t end = begin + batch.length;
  const int64_t inputs = std::min(batch.length, set.tokens() - first);
  const int64_t targets = std::min(inputs, set.tokens() - first - 1);

  // One token more than the inputs, as it is the last target.
  batch.tokens.resize(static_cast<size_t>(end) + 1, 0);
  set.read(first, std::max(inputs, targets + 1), vocab_size, batch.tokens.data() + begin);
  batch.targets.assign(batch.tokens.begin() + 1, batch.tokens.begin() + 1 + end);
  return;
}

}  // namespace sluice
