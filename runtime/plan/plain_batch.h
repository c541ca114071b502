#pragma once

#include "configs/train.pb.h"
#include "runtime/data/batch.h"

namespace sluice {

/// A micro-step's sequences of a validated configuration, of one document and random tokens each, padded to a multiple.
Batch plain_batch(const TrainConfig& config, int64_t multiple, uint64_t seed = 0);

}  // namespace sluice
