#pragma once

#include <vector>

#include "kernels/core/arena.h"
#include "models/parameters.h"
#include "parallel/flat_layout.h"

namespace sluice {

/// Bytes of address space an arena reserves when its need is not computed beforehand: as many as there is memory, or an
/// arena's share of what the process may reserve. Pages are taken when touched.
int64_t physical_memory_bytes();

/// dtype that a precision computes in on this backend.
DType compute_dtype(TrainConfig::Precision precision);

/// The weights that a rank holds, and what is known about them.
class ModelState {
 public:
  /// Allocates the weights of `rank` of the mesh; their contents are undefined. Whatever trains them takes its memory
  /// from the same source.
  ModelState(const ModelConfig& config, bool decay_embeddings, DType dtype, const MeshShape& mesh = {}, int rank = 0,
             MemorySource source = MemorySource::kHugePages);

  std::vector<ParameterRecord> records;
  FlatLayout layout;  ///< of weights, gradients and moments
  Arena state;        ///< weights, moments, tables
  Arena numbers;      ///< sums and factors that the host reads; has memory in a plan too
  Tensor weights;     ///< [layout.count]
  ModelTensors weight_tensors;
};

}  // namespace sluice
