#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/tensor.h"

namespace sluice {

/// Which folding of the world a parameter lives in.
enum class Folding { kDense, kExpert };

/// Axes of the mesh, as bits of a set.
using AxisSet = unsigned;
inline constexpr AxisSet kAxisTp = 1, kAxisEp = 2, kAxisEtp = 4;

/// How a parameter starts.
enum class Initialisation { kNormal, kOnes, kZeros };

/// Half-open box of a parameter's global index space.
struct Box {
  std::vector<int64_t> begin, end;
};

/// What everything outside the model knows about a parameter: initialisation, gradient reduction, norm, clip,
/// optimizer, checkpoint and counts read this record and nothing else.
struct ParameterRecord {
  std::string name;                   ///< internal name, model.layers.3.mlp.experts.down_proj
  std::vector<int64_t> global_shape;  ///< of the whole parameter
  std::vector<Box> boxes;             ///< parts held by this rank, back to back in its flat range
  Folding folding = Folding::kDense;
  AxisSet grad_partial_over = 0;  ///< axes whose partial gradients must be summed
  AxisSet copies = 0;             ///< axes that hold equal copies: norm and checkpoint count one
  bool weight_decay = true;
  double lr_scale = 1;  ///< learning-rate multiplier (muP width scaling)
  Initialisation initialisation = Initialisation::kNormal;
  double init_std = 0;     ///< standard deviation of kNormal
  int64_t flat_begin = 0;  ///< elements, in this rank's flat buffers of weights, gradients and moments
  int64_t count = 0;       ///< elements held by this rank

  int64_t global_count() const {
    int64_t n = 1;
    for (int64_t dim : global_shape) n *= dim;
    return n;
  }
};

}  // namespace sluice
