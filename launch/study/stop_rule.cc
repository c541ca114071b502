#include "launch/study/stop_rule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

namespace sluice {

std::string StopRuleWatch::see(int64_t step, double loss) {
  if (seen_ == 0) {
    std::erase_if(falls_, [&](const Least& fall) { return fall.step >= step; });
    for (const Least& fall : falls_) least_mean_ = std::min(least_mean_, fall.mean);
  }
  losses_[seen_++ % losses_.size()] = std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
  if (seen_ < losses_.size()) return "";
  const double mean = std::accumulate(losses_.begin(), losses_.end(), 0.0) / static_cast<double>(losses_.size());
  const double rise = mean - least_mean_;
  least_mean_ = std::min(least_mean_, mean);
  if (std::isfinite(mean) && (falls_.empty() || mean < falls_.back().mean - 0.01 * std::abs(falls_.back().mean))) {
    falls_.push_back({step, mean});
  }
  if (step < rule_.after_steps()) return "";
  const auto reason = [&](const std::string& what) {
    return fmt::format("the mean loss of {} steps is {:.4f} in step {}, {}", losses_.size(), mean, step, what);
  };
  if (rule_.has_loss_above() && mean > rule_.loss_above()) {
    return reason(fmt::format("above stop.loss_above={:g}", rule_.loss_above()));
  }
  if (rule_.has_rise() && rise > rule_.rise()) {
    return reason(fmt::format("more than stop.rise={:g} above its least", rule_.rise()));
  }
  return "";
}

}  // namespace sluice
