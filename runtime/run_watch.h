#pragma once

#include <optional>

#include "configs/train.pb.h"
#include "parallel/agree.h"
#include "parallel/schedule_fingerprint.h"
#include "parallel/stage_hooks.h"
#include "parallel/watch/watchdog.h"

namespace sluice {

/// Whether the ranks of a training run do the same, and go on. The watchdog is off for one rank, and with
/// watchdog.deadline_s=0.
class RunWatch : public StageHooks {
 public:
  /// Every rank of the mesh calls it. Who holds up the job is told through fatal().
  RunWatch(const TrainConfig& config, const Mesh& mesh);

  /// To be shown the calls of the run; null when nobody watches.
  GroupObserver* observer() { return watchdog_ ? &watchdog_->observer() : nullptr; }
  /// To be shown those of its steps.
  std::vector<GroupObserver*> step_observers();
  /// Calls between the two are compared between ranks.
  void begin_step(int64_t step);
  void end_step();
  /// Compares those of the last step. Every rank calls it, not seen by step_observers(). Throws what
  /// ScheduleFingerprint does.
  void compare_calls(ProcessGroup& world) const { fingerprint_.compare(world); }
  /// Calls body() with the deadline for checkpoints.
  template <class Body>
  void saving(const Body& body) {
    if (watchdog_) watchdog_->set_deadline(save_deadline_s_);
    body();
    if (watchdog_) watchdog_->reset_deadline();
  }
  /// Runs the job; a call that fails in it may end it with whom to blame rather than with its error.
  template <class Body>
  void guard(const Body& body) {
    try {
      body();
    } catch (const AgreedError&) {
      throw;
    } catch (const Error& error) {
      if (watchdog_ && !is_from_outside(error.fault())) watchdog_->await_verdict(error);
      throw;
    }
  }

  void before_forward(int stage) override;
  void before_backward(int stage) override;
  void after_backward(int stage) override;

 private:
  void at(uint32_t place);

  const double save_deadline_s_;
  ScheduleFingerprint fingerprint_;
  std::optional<Watchdog> watchdog_;
};

}  // namespace sluice
