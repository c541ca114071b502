#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

/// Splits the time since `start` into named phases, for the line that tells where start-up went.
class PhaseTimer {
 public:
  using Clock = std::chrono::steady_clock;

  explicit PhaseTimer(Clock::time_point start = Clock::now()) : start_(start), last_(start) {}

  static double ms_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
  }

  /// Ends a phase: the time since the last mark belongs to `name`.
  void mark(const std::string& name);
  /// "812 ms (mpi 310, config 2, ...)".
  std::string summary() const;

 private:
  Clock::time_point start_, last_;
  std::vector<std::pair<std::string, double>> phases_ms_;
};

}  // namespace sluice
