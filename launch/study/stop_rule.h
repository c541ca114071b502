#pragma once

#include <limits>
#include <string>
#include <vector>

#include "configs/study.pb.h"

namespace sluice {

/// Carries out a study's rule for one cell.
class StopRuleWatch {
 public:
  explicit StopRuleWatch(const StopRule& rule) : rule_(rule), losses_(static_cast<size_t>(rule.window())) {}

  /// Of each step in turn. Returns why the cell has diverged; empty: it has not. The window starts anew with a session.
  std::string see(int64_t step, double loss);
  /// Of all windows so far, for a later session to go on with; infinite: there was none.
  double least_mean() const { return least_mean_; }
  void set_least_mean(double loss) { least_mean_ = loss; }

 private:
  const StopRule rule_;
  std::vector<double> losses_;  ///< the last ones, in a ring
  size_t seen_ = 0;
  double least_mean_ = std::numeric_limits<double>::infinity();
};

}  // namespace sluice
