#pragma once

#include <functional>
#include <string>
#include <vector>

#include "configs/train.pb.h"
#include "kernels/core/stream.h"
#include "parallel/process_group.h"
#include "runtime/model_state.h"

namespace sluice {

/// One tensor of a run, whole and in f64, whatever parts the ranks had of it.
struct SeenTensor {
  std::string name;
  std::string after;  ///< the collective call before it on rank 0: "group.operation at file:line"
  std::vector<double> values;
};

/// What a layout computes, in terms that do not depend on it.
struct Evidence {
  std::vector<std::vector<SeenTensor>> stream;  ///< of step 1 a micro-step each: residual stream and its gradient
  std::vector<SeenTensor> gradients;            ///< of step 1, in forward order, summed, not clipped
  std::vector<SeenTensor> initial;              ///< parameters before the first step
  std::vector<SeenTensor> parameters;           ///< after the last step, in forward order
  /// Of every rank's copies of a parameter, the one that is farthest from `parameters`, in L2.
  std::vector<double> copy_distance;
  struct Step {
    double loss = 0, lm_loss = 0, balance_loss = 0, z_loss = 0, grad_norm = 0, clip_factor = 0;
    std::vector<int64_t> expert_counts;  ///< [layers * experts]
    double disagreement = 0;             ///< largest difference of any of these between two ranks
    std::string after;                   ///< as in SeenTensor: the last call of the step
  };
  std::vector<Step> steps;
  int64_t activation_bytes = 0;  ///< high-water mark of the activations' arenas, of the rank that needs most
};

/// What a run is made with beside its configuration.
struct EvidenceOptions {
  int64_t steps = 3;
  GroupObserver* observer = nullptr;                   ///< sees all calls of the training itself
  std::function<void(ModelState&)> prepare = nullptr;  ///< may change the initial weights, on every rank alike
};

/// Trains a validated configuration on made-up documents, the same on every layout, and gathers what came of it, on
/// every rank. Every rank of `world` calls it.
Evidence gather_evidence(const TrainConfig& config, ProcessGroup& world, Stream& s, const EvidenceOptions& options);

}  // namespace sluice
