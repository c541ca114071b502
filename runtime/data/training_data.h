#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/philox.h"
#include "runtime/data/batch.h"
#include "runtime/data/blend.h"
#include "runtime/data/indexed_dataset.h"

namespace sluice {

struct DataSource {
  std::string prefix;
  double weight = 1;
};

/// The endless sequence of training samples of one stage, a pure function of (sources, seed, sample index). A sample is
/// a window of sequence_length + 1 tokens of a set's stream of all tokens. Epoch e of a set shifts its windows by an
/// offset drawn from (seed, e) and visits each once, in an order drawn from (seed, e). Safe to read from several
/// threads.
class TrainingData {
 public:
  /// Opens all sets. Throws Error on a bad file, a bad weight, or a set shorter than one window.
  TrainingData(const std::vector<DataSource>& sources, uint64_t seed, int64_t sequence_length, int64_t vocab_size);

  int64_t sequence_length() const { return length_; }
  const std::vector<IndexedDataset>& sets() const { return sets_; }
  /// Windows of set `k` in one epoch.
  int64_t windows(size_t k) const { return windows_[k]; }

  /// Fills `batch` with samples [first, first + count).
  void read(int64_t first, int64_t count, Batch& batch) const;
  /// Targets of those samples, from the index alone.
  int64_t count_targets(int64_t first, int64_t count) const;

 private:
  struct Window {
    const IndexedDataset& set;
    int64_t first_token;
  };
  Window window(int64_t sample) const;

  int64_t length_, vocab_size_;
  std::vector<IndexedDataset> sets_;
  std::vector<Philox> random_;    // one a set
  std::vector<int64_t> windows_;  // an epoch
  Blend blend_;
};

}  // namespace sluice
