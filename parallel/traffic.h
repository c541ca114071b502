#pragma once

#include <chrono>
#include <map>
#include <string>
#include <utility>

#include "parallel/process_group.h"

namespace sluice {

/// What a rank's calls of one operation in one group came to.
struct Traffic {
  int64_t calls = 0;
  int64_t bytes_sent = 0;  ///< as GroupCall counts them
  double seconds = 0;      ///< inside the calls and in waits for their end: what compute does not hide
};

/// Counts calls, bytes and time of the groups that it observes. Groups of one rank are left out.
class TrafficMeter : public GroupObserver {
 public:
  void before(const GroupCall&) override { start_ = std::chrono::steady_clock::now(); }
  void after(const GroupCall& call) override;
  void before_wait(const GroupCall& call) override { before(call); }
  void after_wait(const GroupCall& call) override;

  /// By (group, operation).
  const std::map<std::pair<std::string, std::string>, Traffic>& by_operation() const { return traffic_; }
  Traffic total() const;
  void reset() { traffic_.clear(); }

 private:
  /// Adds the time since start_; the call's entry, nullptr for a group of one rank.
  Traffic* add_time(const GroupCall& call);

  std::chrono::steady_clock::time_point start_;
  std::map<std::pair<std::string, std::string>, Traffic> traffic_;
};

}  // namespace sluice
