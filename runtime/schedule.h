#pragma once

#include "configs/train.pb.h"

namespace sluice {

/// Learning rate of update `step` (1 for the first), before any per-parameter factor (paper section 4.0): linear
/// warm-up to lr, then cosine to the absolute floor min_lr at the last step, or stable and a linear decay (WSD), or
/// constant.
double learning_rate(const OptimizerConfig& optimizer, int64_t steps, int64_t step);

/// Sequences of update `step` (1 for the first), after the batch ramp.
int64_t batch_size(const TrainingConfig& training, int64_t step);

/// Samples used by the updates before `step`.
int64_t samples_before(const TrainingConfig& training, int64_t step);

}  // namespace sluice
