#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/mesh.h"
#include "parallel/watch/call_publisher.h"
#include "parallel/watch/node_link.h"

namespace sluice {

struct WatchdogOptions {
  double deadline_s = 300;          ///< for a rank to show a sign of life, or to return from a call
  std::vector<std::string> places;  ///< names of the places that at() takes
  /// Called once, from the watchdog's thread of one rank, with whom to blame; expected to end the job.
  std::function<void(const std::string&)> report;
};

/// Finds out who holds up a job. Each rank shows its last calls in memory that the ranks of a node share, and a thread
/// of each beats beside it; the first rank of a node reports to rank 0 by TCP. When a rank is silent or stays in a call
/// beyond the deadline, the lowest rank that is still alive says who is to blame, within five seconds.
/// Time that the watching process itself was stopped (a suspended job) does not count.
class Watchdog {
 public:
  /// Watches the groups of `mesh`, which must outlive it. Every rank calls it.
  Watchdog(const Mesh& mesh, WatchdogOptions options);
  /// Every rank calls it, unless it fails.
  ~Watchdog();

  /// To be shown every call in the groups of the mesh.
  GroupObserver& observer() { return *publisher_; }
  /// Where the calls that follow belong to; CallPublisher::kNowhere: to nothing in particular.
  void at(uint32_t place) { publisher_->set_place(place); }
  /// Calls between the two are the same on every rank, and compared.
  void begin_step(int64_t step) { publisher_->begin_step(step); }
  void end_step() { publisher_->end_step(); }
  /// For what takes long without a call, such as writing to disk; of this rank.
  void set_deadline(double seconds);
  void reset_deadline() { set_deadline(options_.deadline_s); }

  /// For a rank whose call failed: gives the watchdogs the time to find out whose calls differ. If they do, one of them
  /// reports meanwhile.
  void await_verdict(const Error& error);

 private:
  /// Time for which a rank's counters stand still.
  struct Age {
    uint64_t beats = 0, progress = 0;
    int64_t silent_ms = 0, still_ms = 0;
  };

  /// A rank of another node as it was last reported, ages since then included.
  struct Remote {
    RankState state;
    bool reports = false;  ///< for its node: when it is silent, that is all one knows
  };

  const WatchSlot& slot(size_t index) const { return *static_cast<const WatchSlot*>(memory_->part(index)); }
  void watch();
  void stop();
  void look();
  void grow_older(int64_t ms);
  std::vector<RankState> states_of_node(uint64_t most_calls) const;
  std::vector<RankState> known_states(uint64_t most_calls) const;
  /// Of all ranks of this node that are alive, the lowest speaks.
  bool speaks() const;
  void listen();
  uint64_t calls_to_report() const;
  std::optional<std::string> complaint();

  const WatchdogOptions options_;
  std::map<std::string, std::vector<int>> members_;  ///< of each group, by its name: ranks of the world
  ProcessGroup& world_;
  std::unique_ptr<NodeMemory> memory_;
  size_t own_ = 0;  ///< this rank's part of the memory
  WatchSlot* own_slot_ = nullptr;
  std::unique_ptr<CallPublisher> publisher_;
  std::unique_ptr<NodeLink> link_;
  NodeLink::Role role_;

  // Of the watching thread.
  std::chrono::steady_clock::time_point last_beat_;
  int64_t quiet_ms_ = 0, until_long_report_ms_ = 0, failed_for_ms_ = 0;
  bool reported_ = false;
  std::vector<Age> ages_;            ///< of the ranks of this node
  std::map<int, Remote> elsewhere_;  ///< by rank
  const int exceptions_at_start_;
  std::atomic<bool> stop_{false}, connected_{false};
  std::thread thread_;
};

}  // namespace sluice
