#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace sluice {

/// Ends this process through fatal() with the code of a hang when it lives longer than so many seconds: for calls that
/// wait for other ranks where no watchdog looks.
class Deadline {
 public:
  /// `what` it was that took so long, for the message.
  Deadline(double seconds, std::string what);
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace sluice
