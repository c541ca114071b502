#pragma once

#include <vector>

#include "kernels/adamw.h"
#include "runtime/model_state.h"

namespace sluice {

/// AdamW over a model's flat buffers, with clipping by the global norm.
class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, const std::vector<ParameterRecord>& records, Arena& state);

  struct Result {
    double grad_norm = 0;
    bool skipped = false;  ///< the norm was not finite; nothing was changed
  };
  /// One update from summed gradients; `step` is 1 for the first. Weights, m and v change unless skipped.
  Result update(Stream& s, ModelState& model, double lr, int64_t step);

 private:
  /// A flat range that shares its settings.
  struct Range {
    int64_t begin, count;
    bool weight_decay;
    double lr_scale;
  };

  OptimizerConfig config_;
  std::vector<Range> ranges_;
  Tensor squared_norm_, norm_, clip_factor_, skip_;
};

}  // namespace sluice
