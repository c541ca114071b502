#pragma once

#include <vector>

#include "kernels/core/arena.h"
#include "models/parameters.h"

namespace sluice {

/// Bytes of address space an arena reserves when its need is not computed beforehand; pages are taken when touched.
int64_t physical_memory_bytes();

/// dtype that a precision computes in on this backend.
DType compute_dtype(TrainConfig::Precision precision);

/// Everything a run knows about its parameters: records and flat buffers, with views by name.
class ModelState {
 public:
  enum class Use { kTraining, kInference };

  /// Allocates weights and, for training, gradients and both moments (zero).
  ModelState(const ModelConfig& config, bool decay_embeddings, DType dtype, Use use, Stream& s);

  std::vector<ParameterRecord> records;
  Arena state;           ///< weights, moments, tables
  Arena gradient_arena;  ///< what is communicated
  Tensor weights;        ///< [flat_count]
  Tensor gradients;      ///< [flat_count], empty in inference; likewise the moments
  Tensor m, v;
  ModelTensors weight_tensors, gradient_tensors;
};

}  // namespace sluice
