#pragma once

#include <atomic>
#include <condition_variable>
#include <coroutine>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/core/stream.h"
#include "parallel/mpi_exchange.h"

namespace sluice {

/// A collective made of messages: a coroutine that lies still in `co_await exchange` until that is done.
class MpiTask {
 public:
  struct promise_type {
    MpiTask get_return_object() { return MpiTask(std::coroutine_handle<promise_type>::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always await_transform(MpiExchange& exchange) noexcept {
      awaited = &exchange;
      return {};
    }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { error = std::current_exception(); }

    MpiExchange* awaited = nullptr;
    std::exception_ptr error;
  };

  MpiTask(MpiTask&& other) noexcept : coroutine_(std::exchange(other.coroutine_, nullptr)) {}
  MpiTask& operator=(MpiTask&&) = delete;
  ~MpiTask() {
    if (coroutine_) coroutine_.destroy();
  }

  /// Goes on as far as it can without blocking; whether that was a bit. Throws what the task threw.
  bool advance();
  bool finished() const { return coroutine_.done(); }

 private:
  explicit MpiTask(std::coroutine_handle<promise_type> coroutine) : coroutine_(coroutine) {}
  std::coroutine_handle<promise_type> coroutine_;
};

/// Moves messages while the rank computes: the thread that runs the tasks of all groups of a rank, those of a group in
/// order. MPI itself moves little unless it is called. No other thread calls MPI while a task is under way.
class MpiProgress {
 public:
  /// crowded  the node has more ranks than cores
  explicit MpiProgress(bool crowded) : crowded_(crowded) {}
  ~MpiProgress() { stop(); }

  /// Begins a task of a group when those that the group has begun before are done. The event throws what the task
  /// threw, or what one before it did while it waited for its turn. After a CountMismatch nothing in a group fits any
  /// more: all its tasks fail with it. When an event goes unwaited, it waits, since buffers are about to go; or if an
  /// exception is the reason, ends this thread, since the others may never come.
  Event start(const void* group, MpiTask task);
  /// The group has no tasks any more, and another may take its address.
  void forget(const void* group) { mismatched_.erase(group); }
  /// Waits until nothing is under way, whatever came of it.
  void settle();

 private:
  struct Job {
    const void* group;
    MpiTask task;
    std::exception_ptr error;
    std::atomic<bool> done{false};
  };
  using Jobs = std::vector<std::shared_ptr<Job>>;
  class Ticket;
  void run();
  bool advance(Jobs& jobs);
  void await(const Job& job);
  /// Gives up what is under way.
  void stop();

  const bool crowded_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<const void*, std::exception_ptr> mismatched_;  // of the thread, and of others when nothing is under way
  Jobs given_;                                            // not seen by the thread yet
  int64_t under_way_ = 0;
  bool stopped_ = false;
  std::atomic<int> waiting_{0};  // threads that wait for a job, and leave their core to this one
  std::thread thread_;
};

}  // namespace sluice
