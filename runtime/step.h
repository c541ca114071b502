#pragma once

#include <functional>
#include <vector>

#include "models/transformer.h"
#include "parallel/gradient_reducer.h"
#include "runtime/data/batch.h"
#include "runtime/optimizer.h"

namespace sluice {

/// Views of a prepared batch; valid as long as it is.
TokenBatch token_batch(const Batch& batch);

/// The arenas of a rank's activations, and the context that hands them to the layers.
class ActivationMemory {
 public:
  ActivationMemory();
  StepContext context(Stream& s, ProcessGroup& dp) { return {s, kept, saved, recompute, scratch, dp}; }

  Arena kept, saved, recompute, scratch;
};

struct StepResult {
  StepLosses losses;
  double grad_norm = 0;
  bool skipped = false;
  std::vector<double> expert_load_max_over_mean;  ///< of each layer; empty without experts
  std::vector<double> router_entropy;             ///< of each layer, nats
};

/// What one optimizer step does: forward and backward of its micro-steps, the sum over ranks, the update.
class TrainStep {
 public:
  TrainStep(const TrainConfig& config, const Transformer& transformer, ModelState& model, ProcessGroup& dp);

  /// Runs update `step` (1 for the first). `next_batch` gives this rank's batch of each micro-step in turn.
  /// Every rank of the group calls it. From the second call on nothing is allocated; the result lasts until the next.
  const StepResult& run(Stream& s, int64_t step, double lr, const LossScale& scale,
                        const std::function<const Batch&()>& next_batch);

  const ActivationMemory& memory() const { return memory_; }

 private:
  void reset_sums(Stream& s);
  void collect(const LossScale& scale, const Optimizer::Result& update);

  const Transformer& transformer_;
  ModelState& model_;
  ProcessGroup& dp_;
  Optimizer optimizer_;
  GradientReducer reducer_;
  ActivationMemory memory_;
  TransformerSaved saved_;
  Tensor all_sums_;  ///< [1 + 3 * layers] f64, what is summed over ranks
  StepSums sums_;
  StepResult result_;
};

}  // namespace sluice
