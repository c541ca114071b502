#pragma once

#include "runtime/data/evaluation_data.h"
#include "runtime/step.h"

namespace sluice {

struct EvaluationResult {
  double nats = 0;  ///< sum over targets
  int64_t targets = 0;

  double loss() const { return nats / static_cast<double>(targets); }
};

/// Held-out loss of the first `max_windows` windows of a set (0: all), shared by the ranks of mesh.dp(); each sums to
/// the same value. `windows_at_a_time` sequences are computed at once; `probe` looks on, null: nobody. Every rank of
/// the mesh calls it.
EvaluationResult evaluate_set(Stream& s, const Mesh& mesh, const Transformer& transformer, const ModelTensors& weights,
                              const EvaluationData& data, int64_t windows_at_a_time, int64_t max_windows,
                              ActivationMemory& memory, Probe* probe = nullptr);

}  // namespace sluice
