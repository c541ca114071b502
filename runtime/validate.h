#pragma once

#include "configs/train.pb.h"
#include "parallel/mesh.h"

namespace sluice {

/// Checks sizes, ranges and combinations of the model. Throws Error with every problem, one a line, each naming the
/// field and what would be right.
void validate_model(const ModelConfig& model);

/// Whether so many sequences of this length can be computed at a time: indices of tokens and of routed rows are int32.
bool tokens_fit(const ModelConfig& model, int64_t sequences, int64_t length);

/// validate_model, and everything that training adds. Carries out model.ffn_parity_multiple and fills in what has a
/// default that depends on other fields (mesh.dp, optimizer.decay_steps) or on the machine (cpu.threads:
/// cores_per_rank).
void validate_training(TrainConfig& config, int world_size, int cores_per_rank = 1);
/// The same of a configuration that is planned and not run, for any device, and without data.
void validate_plan(TrainConfig& config, int world_size, int cores_per_rank = 1);

/// Checks windows and thresholds. Throws Error with every problem.
void validate_stability(const StabilityConfig& stability);

/// The mesh of a validated configuration.
MeshShape mesh_shape(const TrainConfig& config);

}  // namespace sluice
