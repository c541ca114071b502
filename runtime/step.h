#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "models/transformer.h"
#include "parallel/gradient_reducer.h"
#include "parallel/parameter_gather.h"
#include "runtime/data/batch.h"
#include "runtime/optimizer.h"
#include "runtime/qk_clip.h"

namespace sluice {

/// Views of a prepared batch; valid as long as it is.
TokenBatch token_batch(const Batch& batch);

/// The arenas of a rank's activations, and the context that hands them to the layers.
class ActivationMemory {
 public:
  explicit ActivationMemory(MemorySource source = MemorySource::kHugePages);
  StepContext context(Stream& s, const Mesh& mesh) { return {s, kept, saved, recompute, scratch, mesh}; }

  Arena kept, saved, recompute, scratch;
};

struct StepResult {
  StepLosses losses;
  double grad_norm = 0;
  double clip_factor = 1;
  bool skipped = false;
  std::vector<double> expert_load_max_over_mean;  ///< of each layer; empty without experts
  std::vector<double> router_entropy;             ///< of each layer, nats
  // Of each layer, where updates are measured: see ParameterUpdate.
  std::vector<double> layer_grad_norm, layer_update_rms, layer_staleness;
};

/// What one optimizer step does: forward and backward of its micro-steps, the sum over ranks, the update.
class TrainStep {
 public:
  /// All must outlive the step. The weights of every rank must agree.
  TrainStep(const TrainConfig& config, const Transformer& transformer, ModelState& model, const Mesh& mesh, Stream& s);

  /// Runs update `step` (1 for the first), which is skipped above a limit; whether it is, costs no call to other ranks
  /// and nothing has changed. `next_batch` gives this rank's batch of each micro-step in turn.
  /// Every rank of the mesh calls it. From the second call on a single rank allocates nothing; the result lasts until
  /// the next.
  const StepResult& run(Stream& s, int64_t step, double lr, const LossScale& scale,
                        const std::function<const Batch&()>& next_batch, const UpdateLimits& limits = {});

  /// Lets `probe` see the first `micro_steps` of each step; null: nobody.
  void set_probe(Probe* probe, int64_t micro_steps = std::numeric_limits<int64_t>::max()) {
    probe_ = probe;
    probed_micro_steps_ = micro_steps;
  }
  /// Lets `watch` see all micro-steps, after the probe; null: nobody.
  void set_watch(Probe* watch) { watch_ = watch; }
  /// Whether the next steps tell what their updates do to each layer and parameter.
  void measure_updates(bool wanted) { measured_ = wanted; }
  /// Tells `listener` too where the model is: before anything else happens at the beginning of a stage, and after all
  /// else at its end; null: nobody.
  void set_listener(StageHooks* listener) { listener_ = listener; }
  /// After an exception has left run() on every rank before its update: waits for what is under way. Weights and
  /// moments are those before the step. Every rank of the mesh calls it.
  void abandon();
  /// Hands out the weights that this rank updates, which somebody else has changed. Every rank of the mesh calls it.
  void share_weights();
  /// Waits until this rank has all updated weights that it holds. Every rank of the mesh calls it.
  void wait_for_weights() { gather_.wait_all(); }

  const ActivationMemory& memory() const { return memory_; }
  const Arena& gradient_memory() const { return gradient_arena_; }
  const Optimizer& optimizer() const { return optimizer_; }
  /// To be filled with what an earlier run has learnt.
  Optimizer& optimizer() { return optimizer_; }
  /// The summed gradients of the last step, before clipping.
  const GradientReducer& gradients() const { return reducer_; }
  /// int64 counts of the last step, [layers, experts], over all ranks.
  Tensor expert_counts() const { return sums_.expert_counts; }

 private:
  /// Parameters arrive before they are used, gradients leave when they are final.
  class Hooks : public StageHooks {
   public:
    Hooks(Stream& s, TrainStep& step) : s_(s), step_(step) {}
    void before_forward(int stage) override {
      if (step_.listener_) step_.listener_->before_forward(stage);
      step_.gather_.wait(stage);
    }
    void before_backward(int stage) override {
      if (step_.listener_) step_.listener_->before_backward(stage);
      step_.reducer_.before_backward(s_, stage);
    }
    void after_backward(int stage) override {
      step_.reducer_.after_backward(s_, stage);
      if (step_.listener_) step_.listener_->after_backward(stage);
    }

   private:
    Stream& s_;
    TrainStep& step_;
  };
  void reset_sums(Stream& s);
  void balance_by_bias(Stream& s);
  void collect(const LossScale& scale, const Optimizer::Result& update);
  void collect_updates();

  const Transformer& transformer_;
  ModelState& model_;
  const Mesh& mesh_;
  const double expert_budget_;
  const ZeroStage zero_;
  Arena gradient_arena_;
  GradientReducer reducer_;
  ModelTensors gradient_tensors_;
  Optimizer optimizer_;
  ParameterGather gather_;
  ActivationMemory memory_;
  TransformerSaved saved_;
  Tensor all_sums_;  ///< [1 + 3 * layers] f64, what is summed over ranks
  StepSums sums_;
  StepResult result_;
  Probe* probe_ = nullptr;
  int64_t probed_micro_steps_ = 0;
  Probe* watch_ = nullptr;
  std::optional<QkClip> qk_clip_;
  ProbeList probes_;
  bool measured_ = false;
  StageHooks* listener_ = nullptr;
};

}  // namespace sluice
