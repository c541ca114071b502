#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/data/batch.h"
#include "runtime/data/training_data.h"

namespace sluice {

struct SampleRange {
  int64_t first = 0;
  int64_t count = 0;
};

/// Reads the next batches on a thread of its own, so that a step never waits for data. Which samples batch i holds is
/// the caller's function, for instance this rank's slice of micro-step i.
class Prefetcher {
 public:
  using Plan = std::function<SampleRange(int64_t index)>;

  /// Prepares up to `depth` batches ahead of next(), from `first_index` on. `data` must outlive it; `plan` is called on
  /// the thread, for each index once and in order.
  Prefetcher(const TrainingData& data, Plan plan, int64_t first_index, int64_t depth);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The next batch, valid until the following call. Rethrows what reading it threw.
  const Batch& next();

 private:
  void work();

  const TrainingData& data_;
  const Plan plan_;
  std::vector<Batch> ring_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t prepared_, handed_out_;  // indices; batch i lies in ring_[i % ring_.size()]
  bool stop_ = false;
  std::exception_ptr failure_;  // of batch prepared_
  std::thread thread_;
};

}  // namespace sluice
