#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice {

/// Items made by `produce`, worked on by `workers` threads and handed to `consume` in the order they were made.
/// produce(item) -> bool (false: no more) and consume(item) run on the calling thread, work(item, worker) on any. At
/// most 4 items a worker are under way. The first exception stops everything and is rethrown.
template <class Item, class Produce, class Work, class Consume>
class OrderedPipeline {
 public:
  OrderedPipeline(int workers, const Produce& produce, const Work& work, const Consume& consume)
      : produce_(produce), work_(work), consume_(consume), room_(4 * static_cast<size_t>(workers)) {
    for (int worker = 0; worker < workers; ++worker) threads_.emplace_back([this, worker] { run_worker(worker); });
  }
  ~OrderedPipeline() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void run() {
    bool more = true;
    while (more || !slots_.empty()) {
      if (more && slots_.size() < room_) {
        Slot slot;
        more = produce_(slot.item);
        if (more) push(std::move(slot));
        continue;
      }
      consume_(wait_for_front());
      std::lock_guard lock(mutex_);
      slots_.pop_front();
      --next_;
    }
  }

 private:
  struct Slot {
    Item item;
    bool done = false;
  };

  void push(Slot slot) {
    {
      std::lock_guard lock(mutex_);
      slots_.push_back(std::move(slot));
    }
    changed_.notify_all();
  }

  Item& wait_for_front() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return failure_ || slots_.front().done; });
    if (failure_) std::rethrow_exception(failure_);
    return slots_.front().item;
  }

  void run_worker(int worker) {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || next_ < slots_.size(); });
      if (stop_) return;
      // A deque keeps its elements in place when others are pushed and popped at the ends.
      Slot& slot = slots_[next_++];
      lock.unlock();
      std::exception_ptr failure;
      try {
        work_(slot.item, worker);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      slot.done = true;
      if (failure && !failure_) failure_ = failure;
      changed_.notify_all();
    }
  }

  const Produce& produce_;
  const Work& work_;
  const Consume& consume_;
  const size_t room_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Slot> slots_;
  size_t next_ = 0;  // the first slot that no worker has taken
  bool stop_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

template <class Item, class Produce, class Work, class Consume>
void run_ordered(int workers, const Produce& produce, const Work& work, const Consume& consume) {
  OrderedPipeline<Item, Produce, Work, Consume>(std::max(workers, 1), produce, work, consume).run();
}

}  // namespace sluice
