#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/gemm.h"
#include "models/transformer.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/model.h"
#include "tests/runtime/training_fixture.h"

namespace sluice {

/// One micro-step of a model in f64, with gradients of every parameter.
class WholeModel {
 public:
  /// With weights such that no parameter is without effect.
  explicit WholeModel(const TrainConfig& config)
      : config_(config),
        groups_(make_thread_groups(1)),
        mesh_(mesh_shape(config), *groups_.front()),
        stream_{Device::kCpu, best_isa(), &pool_},
        model_(config.model(), true, DType::kF64),
        transformer_(config.model(), config.training(), DType::kF64, config.training().sequence_length(), model_.state),
        gradient_(model_.state.alloc("gradient", DType::kF64, {model_.layout.count()})),
        gradients_(bind_parameters(config.model(), model_.records, gradient_)) {
    const int64_t layers = config.model().num_layers();
    sums_.lm_loss = model_.state.alloc("lm_loss", DType::kF64, {1});
    sums_.router = model_.state.alloc("router", DType::kF64, {layers, 3});
    const int64_t experts = config.model().has_moe() ? config.model().moe().num_experts() : 0;
    sums_.expert_counts = model_.state.alloc("counts", DType::kI64, {layers, experts});
    initialise_parameters(model_.records, 1, stream_, model_.weights);
    move_from_the_start();
    fill_samples(config, 0, config.training().micro_batch_size(), batch_);
    scale_ = {batch_.target_count, static_cast<int64_t>(batch_.tokens.size()), 1};
  }

  /// Fills gradient() and expert_counts().
  double loss() {
    for (Tensor t : {sums_.lm_loss, sums_.router, sums_.expert_counts, gradient_}) fill_zero(stream_, t);
    StepContext ctx = memory_.context(stream_, mesh_);
    transformer_.train_micro_step(ctx, model_.weight_tensors, token_batch(batch_), scale_, sums_, saved_, gradients_);
    return step_losses(config_.model(), scale_, sums_).loss;
  }
  /// Calls see(activations) while they are there.
  template <class See>
  void after_forward(const See& see) {
    fill_zero(stream_, sums_.expert_counts);
    StepContext ctx = memory_.context(stream_, mesh_);
    const ArenaScope kept(ctx.kept), saved(ctx.saved);
    transformer_.forward(ctx, model_.weight_tensors, token_batch(batch_), scale_, sums_, saved_);
    see(saved_);
  }
  /// What a probe sees of a forward pass.
  void show(Probe& probe) {
    fill_zero(stream_, sums_.expert_counts);
    StepContext ctx = memory_.context(stream_, mesh_);
    ctx.probe = &probe;
    const ArenaScope kept(ctx.kept), saved(ctx.saved);
    transformer_.forward(ctx, model_.weight_tensors, token_batch(batch_), scale_, sums_, saved_);
  }
  const Mesh& mesh() const { return mesh_; }
  /// [tokens, vocab]
  std::vector<double> logits() {
    const int64_t tokens = static_cast<int64_t>(batch_.tokens.size()), vocab = config_.model().vocab_size();
    std::vector<double> logits(static_cast<size_t>(tokens * vocab));
    after_forward([&](const TransformerSaved& saved) {
      linear_forward(stream_, saved.normed, model_.weight_tensors.head(),
                     {logits.data(), DType::kF64, Device::kCpu, {tokens, vocab}});
    });
    return logits;
  }
  std::vector<int64_t> expert_counts() const {
    const int64_t* counts = sums_.expert_counts.as<int64_t>();
    return {counts, counts + sums_.expert_counts.count()};
  }
  std::vector<double> weights_of(const ParameterRecord& r) { return held(model_.weights, r); }
  std::vector<double> gradient_of(const ParameterRecord& r) const { return held(gradient_, r); }
  const Batch& batch() const { return batch_; }
  const std::vector<ParameterRecord>& records() const { return model_.records; }
  double* weights() { return model_.weights.as<double>(); }

 private:
  /// Norms begin as ones and biases as zeros.
  void move_from_the_start() {
    for (const ParameterRecord& r : model_.records) {
      if (r.initialisation == Initialisation::kNormal) continue;
      const std::vector<double> by = reference::test_data(r.count, static_cast<uint64_t>(r.flat_begin));
      for (int64_t i = 0; i < r.count; ++i) weights()[r.flat_begin + i] += 0.5 * by[static_cast<size_t>(i)];
    }
  }
  static std::vector<double> held(Tensor flat, const ParameterRecord& r) {
    const double* values = flat.as<double>() + r.flat_begin;
    return {values, values + r.count};
  }

  const TrainConfig config_;
  std::vector<std::unique_ptr<ProcessGroup>> groups_;
  const Mesh mesh_;
  ThreadPool pool_{1};
  Stream stream_;
  ModelState model_;
  const Transformer transformer_;
  Tensor gradient_;
  ModelTensors gradients_;
  ActivationMemory memory_;
  TransformerSaved saved_;
  StepSums sums_;
  Batch batch_;
  LossScale scale_;
};

inline reference::Text text_of(const Batch& batch) {
  return {batch.tokens, batch.targets, batch.positions, batch.document_offsets};
}

/// That loss and gradients of a configuration are those of its equations, by complex step, within 1e-12.
inline void expect_reference(const TrainConfig& config) {
  using reference::Complex;
  WholeModel model(config);
  const double loss = model.loss();
  const reference::Text text = text_of(model.batch());
  reference::Model<Complex> equations(config.model(), text);
  reference::Weights<Complex> weights;
  for (const ParameterRecord& r : model.records()) {
    weights[r.name] = reference::as_type<Complex>(model.weights_of(r));
  }
  EXPECT_NEAR(loss / equations.loss(weights).real(), 1, 1e-13);
  for (const ParameterRecord& r : model.records()) {
    const reference::Directions directions(r.count, 3);
    const std::vector<double> start = model.weights_of(r), gradient = model.gradient_of(r);
    const std::vector<double> slopes = directions.slopes(start, [&](const std::vector<Complex>& moved) {
      weights[r.name] = moved;
      return equations.loss(weights);
    });
    weights[r.name] = reference::as_type<Complex>(start);
    ASSERT_GT(reference::weighted_sum(slopes, slopes), 0) << r.name << " has no effect";
    EXPECT_LE(reference::relative_l2(directions.project(gradient), slopes), 1e-12) << r.name;
  }
}

}  // namespace sluice
