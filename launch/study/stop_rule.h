#pragma once

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "configs/study.pb.h"

namespace sluice {

/// Carries out a study's rule for one cell.
class StopRuleWatch {
 public:
  explicit StopRuleWatch(const StopRule& rule) : rule_(rule), losses_(static_cast<size_t>(rule.window())) {}

  /// The mean of a window that was less than those before it.
  struct Least {
    int64_t step = 0;  ///< the window's last
    double mean = 0;
  };

  /// Of each step in turn. Returns why the cell has diverged; empty: it has not. The window starts anew with a session.
  std::string see(int64_t step, double loss);
  /// For a later session to go on with, from whichever step it begins: how the least mean fell, to a hundredth of it.
  const std::vector<Least>& falls() const { return falls_; }
  /// What an earlier session had; before the first step. What lies behind that step has not been.
  void go_on(std::vector<Least> falls) { falls_ = std::move(falls); }

 private:
  const StopRule rule_;
  std::vector<double> losses_;  ///< the last ones, in a ring
  size_t seen_ = 0;
  std::vector<Least> falls_;
  double least_mean_ = std::numeric_limits<double>::infinity();
};

}  // namespace sluice
