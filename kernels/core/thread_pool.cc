#include "kernels/core/thread_pool.h"

#include <cstdlib>
#include <new>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {
namespace {

// A job starts within microseconds of the last one inside a step; sleeping at once would cost more than the job.
constexpr int kSpins = 2000;

void pause() { __builtin_ia32_pause(); }

}  // namespace

void ThreadPool::Free::operator()(void* p) const { std::free(p); }

ThreadPool::ThreadPool(int threads) {
  INVARIANT(threads >= 1, "a pool needs at least one thread, got ", threads);
  for (int i = 0; i < threads; ++i) {
    workspaces_.emplace_back(std::aligned_alloc(4096, kWorkspaceBytes));
    if (!workspaces_.back()) throw std::bad_alloc();
  }
  for (int worker = 1; worker < threads; ++worker) workers_.emplace_back([this, worker] { work(worker); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  start_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(void (*job)(void*, int), void* data) {
  if (workers_.empty()) return job(data, 0);
  {
    std::lock_guard lock(mutex_);
    job_ = job;
    data_ = data;
    running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
  }
  start_.notify_all();
  std::exception_ptr own;
  try {
    job(data, 0);
  } catch (...) {
    own = std::current_exception();
  }
  for (int spin = 0; spin < kSpins && running_.load(std::memory_order_acquire) > 0; ++spin) pause();
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return running_.load(std::memory_order_acquire) == 0; });
  if (!own) own = failure_;
  failure_ = nullptr;
  if (own) std::rethrow_exception(own);
}

void ThreadPool::work(int worker) {
  uint64_t seen = 0;
  while (true) {
    for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spin) pause();
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      seen = generation_.load(std::memory_order_acquire);
      if (stop_) return;
    }
    std::exception_ptr failure;
    try {
      job_(data_, worker);
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard lock(mutex_);
    // Moved or forgotten here: a reference given up after the lock would race with who catches it.
    if (failure && !failure_) failure_ = std::move(failure);
    failure = nullptr;
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_one();
  }
}

}  // namespace sluice
