#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "configs/manifest.pb.h"
#include "configs/train.pb.h"

namespace sluice {

/// How far a run goes back before spikes, how often it has, and what its learning rate is after that. Knows no weights.
class RewindPlan {
 public:
  explicit RewindPlan(const StabilityConfig& config) : config_(config) {}

  /// The latest step to go back to from a spike, which may be before the first.
  int64_t latest_target(int64_t spike_step) const;
  /// Whether the budget has no further rewind.
  bool exhausted() const { return state_.rewinds() >= config_.rewind().most_rewinds(); }
  /// A spike has taken the run back to after `target_step`.
  void note(int64_t spike_step, int64_t target_step);
  /// Of the learning rate of a step.
  double lr_factor(int64_t step) const { return step <= state_.lr_until_step() ? config_.rewind().lr_factor() : 1; }

  const RewindState& state() const { return state_; }
  /// Throws Error naming a count that cannot be.
  void restore(const RewindState& state);

 private:
  bool same_episode(int64_t spike_step) const;

  const StabilityConfig config_;
  RewindState state_;
};

/// The newest of `steps`, ascending, that is not after `latest`; nothing: there is none.
std::optional<int64_t> newest_up_to(std::span<const int64_t> steps, int64_t latest);

}  // namespace sluice
