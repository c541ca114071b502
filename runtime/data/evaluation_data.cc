#include "runtime/data/evaluation_data.h"

#include <algorithm>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/data/window.h"

namespace sluice {

EvaluationData::EvaluationData(const std::string& prefix, int64_t length, int64_t vocab_size)
    : set_(prefix), length_(length), vocab_size_(vocab_size) {
  ENSURE(length >= 1, "window length: expected 1 or more, got ", length);
  ENSURE(set_.targets() >= 1, prefix, ".idx: no document has two tokens, so there is nothing to predict");
  // The last token is a target only.
  length_ = std::min(length_, set_.tokens() - 1);
  windows_ = (set_.tokens() - 1 + length_ - 1) / length_;
}

void EvaluationData::read(int64_t first, int64_t count, Batch& batch) const {
  INVARIANT(first >= 0 && count >= 0 && first <= windows_ - count, set_.prefix(), ": windows ", first, " to ",
            first + count, " of ", windows_);
  batch.start(count, length_);
  for (int64_t i = 0; i < count; ++i) append_window(set_, (first + i) * length_, vocab_size_, batch);
  // Diagnostics look at every token, so that the set's last window ends where the set does.
  const int64_t beyond = (first + count) * length_ - set_.tokens();
  if (count == 0 || beyond <= 0) return;
  const size_t kept = batch.tokens.size() - static_cast<size_t>(beyond);
  for (std::vector<int32_t>* v : {&batch.tokens, &batch.targets, &batch.positions}) v->resize(kept);
  batch.document_offsets.pop_back();
}

void EvaluationData::check_ids(int64_t windows) const {
  set_.largest_id(std::min(windows * length_ + 1, set_.tokens()), vocab_size_);
}

int64_t count_text_bytes(const IndexedDataset& set, const Tokenizer& tokenizer) {
  constexpr int64_t kBlock = 1 << 16;
  std::vector<int32_t> ids;
  int64_t bytes = 0;
  for (int64_t begin = 0; begin < set.tokens(); begin += kBlock) {
    ids.resize(static_cast<size_t>(std::min(kBlock, set.tokens() - begin)));
    set.read(begin, static_cast<int64_t>(ids.size()), tokenizer.vocab_size(), ids.data());
    std::erase(ids, tokenizer.eod());
    bytes += static_cast<int64_t>(tokenizer.decode(ids).size());
  }
  return bytes;
}

}  // namespace sluice
