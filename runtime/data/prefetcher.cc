#include "runtime/data/prefetcher.h"

#include <algorithm>
#include <utility>

namespace sluice {

Prefetcher::Prefetcher(const TrainingData& data, Plan plan, int64_t first_index, int64_t depth)
    : data_(data),
      plan_(std::move(plan)),
      // One batch is in the caller's hands.
      ring_(static_cast<size_t>(std::max<int64_t>(depth, 1)) + 1),
      prepared_(first_index),
      handed_out_(first_index),
      thread_([this] { work(); }) {}

Prefetcher::~Prefetcher() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

const Batch& Prefetcher::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return prepared_ > handed_out_ || failure_; });
  if (prepared_ == handed_out_) std::rethrow_exception(failure_);
  const Batch& batch = ring_[static_cast<size_t>(handed_out_++) % ring_.size()];
  lock.unlock();
  changed_.notify_all();
  return batch;
}

void Prefetcher::work() {
  std::unique_lock lock(mutex_);
  const auto room = static_cast<int64_t>(ring_.size()) - 1;
  while (true) {
    changed_.wait(lock, [&] { return stop_ || prepared_ - handed_out_ < room; });
    if (stop_) return;
    const int64_t index = prepared_;
    lock.unlock();
    std::exception_ptr failure;
    try {
      const SampleRange range = plan_(index);
      data_.read(range.first, range.count, ring_[static_cast<size_t>(index) % ring_.size()]);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure) {
      failure_ = failure;
    } else {
      ++prepared_;
    }
    changed_.notify_all();
    if (failure) return;
  }
}

}  // namespace sluice
