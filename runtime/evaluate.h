#pragma once

#include "runtime/data/evaluation_data.h"
#include "runtime/step.h"

namespace sluice {

struct EvaluationResult {
  double nats = 0;  ///< sum over targets
  int64_t targets = 0;

  double loss() const { return nats / static_cast<double>(targets); }
};

struct EvaluationOptions {
  int64_t windows_at_a_time = 1;  ///< sequences that are computed at once
  int64_t max_windows = 0;        ///< only the first so many of a set; 0: all
  Probe* probe = nullptr;         ///< who looks on; null: nobody
  StageHooks* hooks = nullptr;    ///< told where the model is; null: nobody
};

/// What an evaluation adds up, in scratch memory; zero at first.
struct EvaluationSums {
  EvaluationSums(StepContext& ctx, const ModelConfig& config);

  StepSums step;
  Tensor totals;  ///< [2] f64: nats and targets
};
/// The losses of a batch's targets, [tokens] f64 in scratch memory.
Tensor evaluate_batch(StepContext& ctx, const Transformer& transformer, const ModelTensors& weights, const Batch& batch,
                      EvaluationSums& sums, TransformerSaved& saved);

/// Held-out loss of a set, shared by the ranks of mesh.dp(); each sums to the same value. Every rank of the mesh calls
/// it.
EvaluationResult evaluate_set(Stream& s, const Mesh& mesh, const Transformer& transformer, const ModelTensors& weights,
                              const EvaluationData& data, const EvaluationOptions& options, ActivationMemory& memory);

}  // namespace sluice
