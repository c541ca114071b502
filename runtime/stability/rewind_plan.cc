#include "runtime/stability/rewind_plan.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace sluice {
namespace {

/// Beyond that no run is long enough.
constexpr int64_t kMostDoublings = 30;
/// Of steps and of rewinds.
constexpr int64_t kLargestCount = int64_t{1} << 53;

}  // namespace

bool RewindPlan::same_episode(int64_t spike_step) const {
  return state_.rewinds() > 0 && spike_step - state_.last_spike_step() <= config_.episode_gap_steps();
}

int64_t RewindPlan::latest_target(int64_t spike_step) const {
  const int64_t doublings = same_episode(spike_step) ? std::min(state_.in_a_row(), kMostDoublings) : 0;
  const double back = static_cast<double>(config_.rewind().steps_back()) * static_cast<double>(int64_t{1} << doublings);
  return back > static_cast<double>(spike_step) ? -1 : spike_step - static_cast<int64_t>(back);
}

void RewindPlan::note(int64_t spike_step, int64_t target_step) {
  state_.set_in_a_row(same_episode(spike_step) ? state_.in_a_row() + 1 : 1);
  state_.set_rewinds(state_.rewinds() + 1);
  state_.set_last_spike_step(spike_step);
  if (config_.rewind().lr_factor() < 1) state_.set_lr_until_step(target_step + config_.rewind().lr_steps());
}

void RewindPlan::restore(const RewindState& state) {
  const auto check = [](const char* field, int64_t value) {
    ENSURE(value >= 0 && value <= kLargestCount, "stability.rewind.", field, "=", value, ", expected 0 to ",
           kLargestCount);
  };
  check("rewinds", state.rewinds());
  check("in_a_row", state.in_a_row());
  check("last_spike_step", state.last_spike_step());
  check("lr_until_step", state.lr_until_step());
  state_ = state;
}

std::optional<int64_t> newest_up_to(std::span<const int64_t> steps, int64_t latest) {
  const auto after = std::upper_bound(steps.begin(), steps.end(), latest);
  return after == steps.begin() ? std::nullopt : std::optional(*(after - 1));
}

}  // namespace sluice
