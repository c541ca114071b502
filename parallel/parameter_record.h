#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/tensor.h"
#include "parallel/mesh.h"

namespace sluice {

/// How a parameter starts.
enum class Initialisation { kNormal, kOnes, kZeros };

/// Half-open box of a parameter's global index space.
struct Box {
  std::vector<int64_t> begin, end;

  int64_t count() const;
};

/// What everything outside the model knows about a parameter: initialisation, gradient reduction, norm, clip,
/// optimizer, checkpoint, verification and counts read this record and nothing else.
struct ParameterRecord {
  std::string name;                   ///< internal name, model.layers.3.mlp.experts.down_proj
  std::vector<int64_t> global_shape;  ///< of the whole parameter
  std::vector<Box> boxes;             ///< parts held by this rank, back to back in its flat range
  Shape shape;                        ///< of what this rank holds
  Replicas replicas = Replicas::kDp;  ///< who holds equal copies, each with a part of the gradient
  int stage = 0;                      ///< of the model, in forward order; gradients are final a stage at a time
  bool weight_decay = true;
  double lr_scale = 1;               ///< learning-rate multiplier (muP width scaling)
  bool gradient_is_written = false;  ///< by the first micro-step whatever was there; otherwise always added to
  Initialisation initialisation = Initialisation::kNormal;
  double init_std = 0;     ///< standard deviation of kNormal
  int64_t flat_begin = 0;  ///< elements, in this rank's flat buffers of weights and gradients
  int64_t count = 0;       ///< elements held by this rank

  int64_t global_count() const;
};

/// Walks boxes of a row-major shape in order, in runs as long as they lie together:
/// visit(first element's place in the global shape, elements).
template <class Visit>
void for_each_run(const std::vector<int64_t>& shape, const std::vector<Box>& boxes, const Visit& visit) {
  for (const Box& box : boxes) {
    if (box.count() == 0) continue;
    // Axes after `last` are held in full.
    size_t last = shape.size() - 1;
    int64_t run = box.end[last] - box.begin[last];
    while (last > 0 && box.end[last] - box.begin[last] == shape[last]) {
      --last;
      run *= box.end[last] - box.begin[last];
    }
    std::vector<int64_t> at = box.begin;
    for (bool done = false; !done;) {
      int64_t place = 0;
      for (size_t i = 0; i < shape.size(); ++i) place = place * shape[i] + at[i];
      visit(place, run);
      size_t i = last;
      while (i > 0 && ++at[i - 1] == box.end[i - 1]) at[i - 1] = box.begin[i - 1], --i;
      done = i == 0;
    }
  }
}

}  // namespace sluice
