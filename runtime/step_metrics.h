#pragma once

#include "configs/train.pb.h"
#include "runtime/metrics/step_metrics.h"
#include "runtime/step.h"

namespace sluice {

/// What a step of a run has to tell, but for its speed and what a probe has seen.
StepMetrics step_metrics(const TrainConfig& config, int64_t step, double lr, const StepResult& result);

}  // namespace sluice
