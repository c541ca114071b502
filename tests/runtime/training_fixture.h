#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "kernels/elementwise.h"
#include "parallel/thread_group.h"
#include "runtime/config.h"
#include "runtime/step.h"
#include "runtime/validate.h"
#include "runtime/verify/made_up_samples.h"

namespace sluice {

/// A mixture of experts with a gate that trains in milliseconds, in f64; `overrides` as --set takes them.
inline TrainConfig tiny_config(const std::vector<std::string>& overrides = {}, int world_size = 1) {
  TrainConfig config = parse_config(R"(
    model {
      hidden_size: 16 num_layers: 2 num_attention_heads: 4 num_key_value_heads: 2 head_dim: 6 vocab_size: 37
      moe { num_experts: 5 top_k: 2 moe_intermediate_size: 7 norm_topk_prob: true balance_coef: 0.1 z_coef: 0.01 }
      gates { position: G1 granularity: ELEMENTWISE }
      init_std: 0.3
    }
    training { steps: 10 sequence_length: 12 micro_batch_size: 4 global_batch_size: 4 }
    optimizer { lr: 1e-2 clip: 0.5 }
    data { train { prefix: "unused" } }
    precision: F64)",
                                    "tiny", overrides);
  validate_training(config, world_size);
  return config;
}

/// One rank's training of a configuration on fill_samples.
class TinyRun {
 public:
  TinyRun(const TrainConfig& config, ProcessGroup& world)
      : config_(config),
        mesh_(mesh_shape(config), world),
        pool_(static_cast<int>(config.cpu().threads())),
        stream_{Device::kCpu, best_isa(), &pool_},
        model_(config.model(), config.optimizer().decay_embeddings(), compute_dtype(config.precision()), mesh_.shape(),
               world.rank()),
        transformer_(config.model(), config.training(), compute_dtype(config.precision()),
                     config.training().sequence_length(), model_.state),
        step_(config, transformer_, model_, mesh_, stream_) {
    initialise_parameters(model_.records, static_cast<uint64_t>(config.training().seed()), stream_, model_.weights);
    make_batches();
  }

  /// Steps from 1 to training.steps, in order.
  const StepResult& run(int64_t step, const UpdateLimits& limits = {}) {
    return step_.run(
        stream_, step, config_.optimizer().lr(), scale_, [this]() -> const Batch& { return batches_[next_batch_++]; },
        limits);
  }

  /// Leaves out the batches of so many steps.
  void skip_steps(int64_t steps) { next_batch_ += static_cast<size_t>(steps * scale_.micro_steps); }

  /// What this rank holds of every parameter, without padding.
  std::vector<double> weights() {
    const std::vector<double> flat = values(model_.weights);
    std::vector<double> held;
    for (const ParameterRecord& r : model_.records) {
      held.insert(held.end(), flat.begin() + r.flat_begin, flat.begin() + r.flat_begin + r.count);
    }
    return held;
  }
  /// What this rank keeps of both moments.
  std::vector<double> moments() {
    std::vector<double> kept;
    for (const ParameterRecord& r : model_.records) {
      const Optimizer::Moments of = step_.optimizer().moments(r);
      for (const Tensor& moment : {of.m, of.v}) {
        const std::vector<double> own = values(moment);
        kept.insert(kept.end(), own.begin(), own.end());
      }
    }
    return kept;
  }
  ModelState& model() { return model_; }
  const Mesh& mesh() const { return mesh_; }
  TrainStep& step() { return step_; }
  const ActivationMemory& memory() const { return step_.memory(); }
  const Transformer& transformer() const { return transformer_; }
  Stream& stream() { return stream_; }

 private:
  void make_batches() {
    const TrainingConfig& t = config_.training();
    const int64_t together = t.micro_batch_size() * mesh_.shape().dp;
    scale_.step_targets = t.global_batch_size() * (t.sequence_length() - 1);
    scale_.micro_step_tokens = together * t.sequence_length();
    scale_.micro_steps = t.global_batch_size() / together;
    for (int64_t i = 0; i < t.steps() * scale_.micro_steps; ++i) {
      const int64_t first = i * together + mesh_.place().dp * t.micro_batch_size();
      fill_samples(config_, first, t.micro_batch_size(), batches_.emplace_back());
    }
  }
  std::vector<double> values(Tensor flat) {
    std::vector<double> out(static_cast<size_t>(flat.count()));
    cast(stream_, flat, {out.data(), DType::kF64, Device::kCpu, flat.shape});
    return out;
  }

  const TrainConfig config_;
  const Mesh mesh_;
  LossScale scale_;
  std::vector<Batch> batches_;  // of all micro-steps of the run
  size_t next_batch_ = 0;
  ThreadPool pool_;
  Stream stream_;
  ModelState model_;
  Transformer transformer_;
  TrainStep step_;
};

/// What rank 0 of `size` ranks as threads ends with.
struct Trained {
  std::vector<double> weights;
  std::vector<double> losses, grad_norms;
};
inline Trained train_tiny(const TrainConfig& config, int size, int64_t steps) {
  Trained trained;
  run_ranks(size, [&](ProcessGroup& group) {
    TinyRun run(config, group);
    for (int64_t step = 1; step <= steps; ++step) {
      const StepResult& result = run.run(step);
      if (group.rank() != 0) continue;
      trained.losses.push_back(result.losses.loss);
      trained.grad_norms.push_back(result.grad_norm);
    }
    if (group.rank() == 0) trained.weights = run.weights();
  });
  return trained;
}

}  // namespace sluice
