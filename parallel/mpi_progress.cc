#include "parallel/mpi_progress.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <set>

#include "kernels/core/error.h"
#include "parallel/mpi_session.h"
#include "parallel/spin_wait.h"

namespace sluice {
namespace {

// Between looks while the rank computes: the buffers of a socket hold what arrives meanwhile, and looking more often
// takes the core that computes.
constexpr std::chrono::microseconds kPause{200};

}  // namespace

bool MpiTask::advance() {
  promise_type& promise = coroutine_.promise();
  if (promise.awaited && !promise.awaited->done()) return false;
  promise.awaited = nullptr;
  coroutine_.resume();
  if (promise.error) std::rethrow_exception(promise.error);
  return true;
}

/// What the event of a job holds.
class MpiProgress::Ticket {
 public:
  Ticket(MpiProgress& progress, std::shared_ptr<Job> job) : progress_(progress), job_(std::move(job)) {}
  ~Ticket() {
    if (job_->done) return;
    if (std::uncaught_exceptions() > exceptions_at_start_) {
      progress_.stop();
    } else {
      progress_.await(*job_);
    }
  }
  void wait() {
    progress_.await(*job_);
    if (job_->error) std::rethrow_exception(job_->error);
  }

 private:
  const int exceptions_at_start_ = std::uncaught_exceptions();
  MpiProgress& progress_;
  std::shared_ptr<Job> job_;
};

void MpiProgress::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    if (under_way_ > 0) end_without_mpi();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MpiProgress::await(const Job& job) {
  ++waiting_;
  job.done.wait(false);
  --waiting_;
}

Event MpiProgress::start(const void* group, MpiTask task) {
  const auto job = std::make_shared<Job>(group, std::move(task));
  {
    std::lock_guard lock(mutex_);
    INVARIANT(!stopped_, "messages after this rank failed");
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    given_.push_back(job);
    ++under_way_;
  }
  changed_.notify_all();
  return Event([ticket = std::make_shared<Ticket>(*this, job)] { ticket->wait(); });
}

void MpiProgress::settle() {
  std::unique_lock lock(mutex_);
  ++waiting_;
  changed_.wait(lock, [&] { return under_way_ == 0 || stopped_; });
  --waiting_;
}

void MpiProgress::run() {
  Jobs jobs;
  SpinWait wait(crowded_);
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (jobs.empty()) changed_.wait(lock, [&] { return stopped_ || !given_.empty(); });
      jobs.insert(jobs.end(), given_.begin(), given_.end());
      given_.clear();
      if (stopped_) break;
    }
    if (advance(jobs)) {
      wait = SpinWait(crowded_);
    } else if (waiting_ > 0) {
      wait.once();
    } else {
      std::this_thread::sleep_for(kPause);
    }
  }
  for (const auto& job : jobs) {
    job->error = std::make_exception_ptr(Error("given up, since this rank failed", __FILE__, __LINE__));
    job->done = true;
    job->done.notify_all();
  }
}

bool MpiProgress::advance(Jobs& jobs) {
  std::set<const void*> busy;
  bool moved = false;
  for (const auto& job : jobs) {
    if (job->done || !busy.insert(job->group).second) continue;
    try {
      const auto mismatch = mismatched_.find(job->group);
      if (mismatch != mismatched_.end()) std::rethrow_exception(mismatch->second);
      moved |= job->task.advance();
      if (!job->task.finished()) continue;
      job->done = true;
    } catch (const CountMismatch&) {
      mismatched_.insert({job->group, std::current_exception()});
      job->error = std::current_exception();
      job->done = true;
    } catch (...) {
      for (const auto& other : jobs) {
        if (other->group != job->group || other->done) continue;
        other->error = std::current_exception();
        other->done = true;
        other->done.notify_all();
      }
    }
    job->done.notify_all();
  }
  const auto ended = std::erase_if(jobs, [](const auto& job) { return job->done.load(); });
  if (ended == 0) return moved;
  {
    std::lock_guard lock(mutex_);
    under_way_ -= static_cast<int64_t>(ended);
  }
  changed_.notify_all();
  return true;
}

}  // namespace sluice
