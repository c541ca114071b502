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

void Batch::pad_to_multiple(int64_t of) {
  const int64_t missing = (of - static_cast<int64_t>(tokens.size()) % of) % of;
  if (missing == 0) return;
  for (int64_t i = 0; i < missing; ++i) {
    tokens.push_back(0);
    targets.push_back(-1);
    positions.push_back(static_cast<int32_t>(i));
  }
  document_offsets.push_back(static_cast<int32_t>(tokens.size()));
}

void append_window(const IndexedDataset& set, int64_t first, int64_t vocab_size, Batch& batch) {
  const auto begin = static_cast<int64_t>(batch.tokens.size());
  const int64_t end = begin + batch.length;
  const int64_t inputs = std::min(batch.length, set.tokens() - first);
  const int64_t targets = std::min(batch.length, set.tokens() - first - 1);

  // For a moment one token more than the inputs: the last target.
  batch.tokens.resize(static_cast<size_t>(end) + 1, 0);
  set.read(first, std::max(inputs, targets + 1), vocab_size, batch.tokens.data() + begin);
  batch.targets.insert(batch.targets.end(), batch.tokens.begin() + begin + 1,
                       batch.tokens.begin() + begin + 1 + targets);
  batch.targets.resize(static_cast<size_t>(end), -1);
  batch.tokens.pop_back();
  batch.positions.resize(static_cast<size_t>(end));
  batch.target_count += targets;

  for_each_boundary(set, first, batch.length, [&](int64_t token) {
    batch.targets[static_cast<size_t>(begin + token - 1 - first)] = -1;
    --batch.target_count;
    close_document(batch, begin + token - first);
  });
  close_document(batch, begin + inputs);
  close_document(batch, end);
}

int64_t count_targets(const IndexedDataset& set, int64_t first, int64_t length) {
  int64_t targets = std::min(length, set.tokens() - first - 1);
  for_each_boundary(set, first, length, [&](int64_t) { --targets; });
  return targets;
}

}  // namespace sluice
