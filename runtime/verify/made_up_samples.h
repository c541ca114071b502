#pragma once

#include "configs/train.pb.h"
#include "runtime/data/batch.h"

namespace sluice {

/// Samples [first, first + count) of an endless set that a configuration's seed and vocabulary define: random tokens,
/// low ones more often, each sample cut into two documents.
void fill_samples(const TrainConfig& config, int64_t first, int64_t count, Batch& batch);

}  // namespace sluice
