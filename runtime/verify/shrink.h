#pragma once

#include <string>

#include "configs/train.pb.h"

namespace sluice {

/// Makes a configuration small enough to be trained on one rank in f64 within seconds, in a way that keeps every
/// divisibility: heads, experts, top_k and the mesh stay; layers, widths, vocabulary, samples and micro-steps shrink
/// when they are large. `world_size` ranks train it. Returns a line a change, "model.hidden_size 2048 -> 64"; none:
/// nothing was large. The precision becomes F64 in any case.
std::string shrink_for_verification(TrainConfig& config, int world_size);

}  // namespace sluice
