#include "launch/deadline.h"

#include <chrono>
#include <utility>

#include "parallel/fatal.h"

namespace sluice {

Deadline::Deadline(double seconds, std::string what)
    : thread_([this, seconds, what = std::move(what)] {
        std::unique_lock lock(mutex_);
        if (over_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return done_; })) return;
        fatal(exit_code(Fault::kHang), concat("no answer for ", seconds, " s: ", what).c_str());
      }) {}

Deadline::~Deadline() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  over_.notify_one();
  thread_.join();
}

}  // namespace sluice
