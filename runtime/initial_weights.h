#pragma once

#include "configs/train.pb.h"
#include "runtime/model_state.h"

namespace sluice {

/// Overwrites the weights that this rank holds with those of a checkpoint, whatever layout wrote it; with
/// missing: INIT what it lacks stays as it is. Throws Error when the checkpoint is damaged, has a parameter that the
/// model lacks or another shape, or lacks one and may not; all that it lacks are named.
void load_initial_weights(const InitialCheckpoint& from, ModelState& model);

}  // namespace sluice
