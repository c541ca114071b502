#pragma once

#include <vector>

#include "models/count.h"
#include "runtime/plan/memory_table.h"
#include "runtime/plan/step_clock.h"

namespace sluice {

/// The machines that a run is planned for. What it refers to must outlive it.
struct PlanTarget {
  const OpSpeed& speed;
  Network network;
  double memory_bytes = 0;  ///< that a rank may take
  double peak_flops = 0;    ///< of a rank, operations a second; 0: not known
  bool timed = true;        ///< false: the speed is not known, and no time of a plan is
  Overhead overhead{};
};

/// What a run of a validated configuration takes of each rank. Ranks differ by a few numbers; it is of the one with the
/// most memory among the first and the last.
struct RunPlan {
  MeshShape mesh;
  ParameterCount parameters;
  double flops_per_token = 0;  ///< of the model: forward and backward, without what is computed again
  MemoryTable memory;
  StepPlan step;
  double tokens_per_s = 0;  ///< of all ranks; 0: not known, like the seconds of the step
  double mfu = 0;           ///< 0: not known
  bool fits = false;
};
RunPlan plan_run(const TrainConfig& config, const PlanTarget& target);

/// Plans of the same run in its own layout and others of its ranks, those that fit before the others, then the fastest
/// first, or where no time is known what takes least memory. A layout keeps the sequences of a step and of a micro-step
/// of a rank.
std::vector<RunPlan> plan_layouts(const TrainConfig& config, const PlanTarget& target);

}  // namespace sluice
