#pragma once

#include <string>
#include <vector>

#include "configs/train.pb.h"
#include "models/count.h"
#include "runtime/metrics/step_metrics.h"

namespace sluice {

/// A run's folder as a study sees it.
struct FinishedRun {
  std::string folder;
  TrainConfig config;
  ParameterCount parameters;
  std::vector<StepMetrics> steps;  ///< those that were logged, ascending
  double loss = 0;        ///< nats: of its evaluation sets at the end, their mean; without such of its last steps
  bool held_out = false;  ///< whether that is of evaluation sets
  bool diverged = false;  ///< the run says so itself, or has ended with a loss that is not finite
  std::string left_out;   ///< why it is no finished run; empty: it is one

  double tokens() const { return steps.empty() ? 0 : static_cast<double>(steps.back().tokens); }
};

/// Reads config.textproto, metrics.jsonl and audit.jsonl of a run. One that has diverged, is not at its end or has a
/// file that cannot be read is told by left_out.
FinishedRun read_run(const std::string& folder);

/// The runs in folders that are runs, or hold some one level below, or are studies, of which all cells are there; each
/// once. Throws Error naming a folder without any.
std::vector<FinishedRun> read_runs(const std::vector<std::string>& folders);

}  // namespace sluice
