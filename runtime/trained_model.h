#pragma once

#include "configs/train.pb.h"
#include "models/transformer.h"
#include "parallel/mesh.h"
#include "runtime/model_state.h"
#include "runtime/resume.h"
#include "runtime/run_data.h"
#include "runtime/step.h"
#include "runtime/step_batches.h"

namespace sluice {

/// This rank's part of the model of a run, with all that trains it; weights and moments are still to be filled.
struct TrainedModel {
  /// All must outlive it.
  TrainedModel(const TrainConfig& config, const Mesh& mesh, const RunData& data, Stream& s);

  const RunIdentity identity;
  ModelState state;
  const Transformer transformer;
  TrainStep train_step;
  StepBatches batches;
};

}  // namespace sluice
