#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice {

/// Threads that run one job at a time together with the caller, and a fixed block of workspace for each.
/// Owned by a rank's context; a rank calls it from one thread. Plain mutexes, so that ThreadSanitizer sees every edge.
class ThreadPool {
 public:
  /// Bytes of workspace a worker may use inside one job (GEMM packing, attention tiles); contents do not survive a job.
  static constexpr int64_t kWorkspaceBytes = int64_t{8} << 20;

  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workspaces_.size()); }
  /// The worker's block, aligned to a page.
  void* workspace(int worker) const { return workspaces_[static_cast<size_t>(worker)].get(); }

  /// Runs job(data, worker) once on every worker, 0 being the caller, and waits. The first exception is rethrown.
  void run(void (*job)(void* data, int worker), void* data);

 private:
  struct Free {
    void operator()(void* p) const;
  };
  void work(int worker);

  std::vector<std::unique_ptr<void, Free>> workspaces_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> running_{0};
  void (*job_)(void*, int) = nullptr;
  void* data_ = nullptr;
  std::exception_ptr failure_;
  bool stop_ = false;
};

}  // namespace sluice
