#include "runtime/step.h"

#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "kernels/router.h"

namespace sluice {
namespace {

Tensor view(const std::vector<int32_t>& values) {
  return {const_cast<int32_t*>(values.data()), DType::kI32, Device::kCpu, {static_cast<int64_t>(values.size())}};
}

}  // namespace

TokenBatch token_batch(const Batch& batch) {
  return {view(batch.tokens), view(batch.targets), view(batch.positions), view(batch.document_offsets)};
}

ActivationMemory::ActivationMemory(MemorySource source)
    : kept("kept activations", source, physical_memory_bytes()),
      saved("saved activations", source, physical_memory_bytes()),
      recompute("recomputed activations", source, physical_memory_bytes()),
      scratch("scratch", source, physical_memory_bytes()) {}

TrainStep::TrainStep(const TrainConfig& config, const Transformer& transformer, ModelState& model, const Mesh& mesh,
                     Stream& s)
    : transformer_(transformer),
      model_(model),
      mesh_(mesh),
      expert_budget_(config.mesh().expert_budget()),
      zero_(zero_stage(config.optimizer())),
      gradient_arena_("gradients", model.state.source(), physical_memory_bytes()),
      reducer_(mesh, model.layout, zero_, exact_dtype(model.weights.dtype), gradient_arena_),
      gradient_tensors_(bind_parameters(config.model(), model.records,
                                        [this](const ParameterRecord& r) { return reducer_.place(r); })),
      optimizer_(config.optimizer(), model, mesh, s),
      gather_(mesh, model.layout, model.weights),
      memory_(model.state.source()) {
  const ModelConfig& m = config.model();
  if (config.optimizer().qk_clip() > 0) qk_clip_.emplace(config.optimizer().qk_clip(), m, mesh, model);
  const int64_t experts = m.has_moe() ? m.moe().num_experts() : 0;
  all_sums_ = model.numbers.alloc("step_sums", DType::kF64, {1 + 3 * m.num_layers()});
  sums_.lm_loss = all_sums_.rows(0, 1);
  sums_.router = all_sums_.rows(1, 3 * m.num_layers()).reshaped({m.num_layers(), 3});
  for (auto* each : {&result_.layer_grad_norm, &result_.layer_update_rms, &result_.layer_staleness}) {
    each->reserve(static_cast<size_t>(m.num_layers()));
  }
  sums_.expert_counts = model.numbers.alloc("expert_counts", DType::kI64, {m.num_layers(), experts});
}

void TrainStep::reset_sums(Stream& s) {
  fill_zero(s, all_sums_);
  fill_zero(s, sums_.expert_counts);
  reducer_.begin_step(s);
}

const StepResult& TrainStep::run(Stream& s, int64_t step, double lr, const LossScale& scale,
                                 const std::function<const Batch&()>& next_batch, const UpdateLimits& limits) {
  reset_sums(s);
  if (qk_clip_) qk_clip_->begin_step(s);
  Hooks hooks(s, *this);
  StepContext ctx = memory_.context(s, mesh_);
  ctx.expert_budget = expert_budget_;
  ctx.hooks = &hooks;
  for (int64_t i = 0; i < scale.micro_steps; ++i) {
    probes_ = ProbeList(i < probed_micro_steps_ ? probe_ : nullptr, watch_, qk_clip_ ? &*qk_clip_ : nullptr);
    ctx.probe = probes_.empty() ? nullptr : &probes_;
    reducer_.begin_micro_step(i == 0, i + 1 == scale.micro_steps);
    ctx.gradients_hold_sums = reducer_.holds_sums();
    transformer_.train_micro_step(ctx, model_.weight_tensors, token_batch(next_batch()), scale, sums_, saved_,
                                  gradient_tensors_);
  }
  reducer_.finish(s);
  mesh_.world().all_reduce(all_sums_).wait();
  const Optimizer::Result update =
      optimizer_.update(s, reducer_, {lr, step, limits, measured_}, {sums_.lm_loss, scale.per_target()});
  if (!update.skipped) {
    balance_by_bias(s);
    if (qk_clip_) qk_clip_->apply(s, optimizer_);
  }
  share_weights();
  collect(scale, update);
  return result_;
}

void TrainStep::abandon() {
  reducer_.abandon();
  gather_.wait_all();
}

void TrainStep::share_weights() {
  if (zero_ != ZeroStage::kNone) gather_.start();
}

void TrainStep::balance_by_bias(Stream& s) {
  const double rate = transformer_.config().moe().selection_bias_rate();
  if (!transformer_.config().has_moe() || rate == 0) return;
  // The counts are those of all ranks, so every copy moves alike.
  const int64_t experts = sums_.expert_counts.dim(1);
  for (size_t i = 0; i < model_.weight_tensors.blocks.size(); ++i) {
    const Tensor counts = sums_.expert_counts.rows(static_cast<int64_t>(i), 1).reshaped({experts});
    update_selection_bias(s, counts, rate, model_.weight_tensors.blocks[i].mlp.selection_bias);
  }
}

void TrainStep::collect(const LossScale& scale, const Optimizer::Result& update) {
  const ModelConfig& config = transformer_.config();
  result_.losses = step_losses(config, scale, sums_);
  result_.grad_norm = update.grad_norm;
  result_.clip_factor = update.clip_factor;
  result_.skipped = update.skipped;
  result_.expert_load_max_over_mean.clear();
  result_.router_entropy.clear();
  const int64_t experts = sums_.expert_counts.dim(1);
  for (int64_t layer = 0; layer < config.num_layers() && experts > 0; ++layer) {
    const int64_t* counts = sums_.expert_counts.as<int64_t>() + layer * experts;
    int64_t total = 0;
    for (int64_t e = 0; e < experts; ++e) total += counts[e];
    const int64_t most = *std::max_element(counts, counts + experts);
    result_.expert_load_max_over_mean.push_back(static_cast<double>(most * experts) / static_cast<double>(total));
    result_.router_entropy.push_back(sums_.router.as<double>()[layer * 3 + 2]);
  }
  collect_updates();
}

void TrainStep::collect_updates() {
  for (auto* each : {&result_.layer_grad_norm, &result_.layer_update_rms, &result_.layer_staleness}) each->clear();
  if (!measured_) return;
  const Stages stages(transformer_.config());
  for (int64_t layer = 0; layer < transformer_.config().num_layers(); ++layer) {
    double count = 0, gradients = 0, updates = 0, ratios = 0;
    for (size_t r = 0; r < model_.records.size(); ++r) {
      const ParameterRecord& record = model_.records[r];
      if (record.stage != stages.block(layer)) continue;
      const ParameterUpdate& update = optimizer_.parameter_updates()[r];
      const double elements = static_cast<double>(record.global_count());
      count += elements;
      gradients += update.squared_gradient;
      updates += update.rms * update.rms * elements;
      ratios += update.staleness * update.staleness * elements;
    }
    result_.layer_grad_norm.push_back(std::sqrt(gradients));
    result_.layer_update_rms.push_back(std::sqrt(updates / count));
    result_.layer_staleness.push_back(std::sqrt(ratios / count));
  }
}

}  // namespace sluice
