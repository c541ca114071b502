#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/analysis/reported_run.h"
#include "launch/analysis/scaling_law.h"

namespace sluice {

/// Runs of one variant and learning rate.
struct LrPoint {
  double lr = 0;
  int64_t runs = 0, diverged = 0;
  std::optional<double> spikes{};  ///< number of all runs where they can be seen; none: in no run
  double loss = 0;                 ///< mean of those that did not diverge; not a number: all have
  /// Of the loss: over seeds their least and largest; of one run where 95 % of samples of its last logged losses put
  /// their mean, moved to `loss`.
  Interval bar{};
  std::optional<double> first_token_attention{}, max_activation{};  ///< means over those that did not diverge
};

/// How one variant takes learning rates.
struct LrSweep {
  std::string variant;
  std::vector<LrPoint> points{};                 ///< ascending
  std::optional<double> best_lr{}, best_loss{};  ///< of rates without a diverged run; none: there is none
  /// Mean over learning rates of min(loss, loss at the start) - best loss, a diverged run having the loss of its start
  /// [wortsman2023b section 2.2]. Its interval is of samples of the runs of each rate; none with one seed.
  std::optional<double> sensitivity{};  ///< none: all runs diverged
  std::optional<Interval> sensitivity_interval{};
  /// Going up from the best, the last with which no run diverged and whose loss is at most kStableExcess above the
  /// best.
  std::optional<double> highest_stable_lr{};
  int64_t runs = 0, diverged = 0;
  std::optional<double> spikes{};  ///< number of all runs where they can be seen; none: in no run
};
inline constexpr double kStableExcess = 0.5;  // nats

/// Of the variants with at least three learning rates. Runs that are neither finished nor diverged are left out.
std::vector<LrSweep> lr_sweeps(const std::vector<ReportedRun>& runs, uint64_t seed = 1, int draws = 1000);

}  // namespace sluice
