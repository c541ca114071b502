#include "runtime/evaluate.h"

#include <algorithm>

#include "kernels/elementwise.h"

namespace sluice {

EvaluationSums::EvaluationSums(StepContext& ctx, const ModelConfig& config) {
  const int64_t layers = config.num_layers();
  step.lm_loss = ctx.scratch.alloc("lm_loss", DType::kF64, {1});
  step.router = ctx.scratch.alloc("router_sums", DType::kF64, {layers, 3});
  step.expert_counts =
      ctx.scratch.alloc("expert_counts", DType::kI64, {layers, config.has_moe() ? config.moe().num_experts() : 0});
  totals = ctx.scratch.alloc("totals", DType::kF64, {2});
  for (Tensor t : {step.lm_loss, step.router, step.expert_counts, totals}) fill_zero(ctx.stream, t);
}

Tensor evaluate_batch(StepContext& ctx, const Transformer& transformer, const ModelTensors& weights, const Batch& batch,
                      EvaluationSums& sums, TransformerSaved& saved) {
  const Tensor losses = ctx.scratch.alloc("losses", DType::kF64, {static_cast<int64_t>(batch.tokens.size())});
  transformer.evaluate(ctx, weights, token_batch(batch), sums.step, saved, losses);
  return losses;
}

EvaluationResult evaluate_set(Stream& s, const Mesh& mesh, const Transformer& transformer, const ModelTensors& weights,
                              const EvaluationData& data, const EvaluationOptions& options, ActivationMemory& memory) {
  ProcessGroup& dp = mesh.dp();
  const int64_t windows = data.windows_read(options.max_windows), windows_at_a_time = options.windows_at_a_time;
  const int64_t rounds = (windows + windows_at_a_time * dp.size() - 1) / (windows_at_a_time * dp.size());
  StepContext ctx = memory.context(s, mesh);
  ctx.probe = options.probe;
  ctx.hooks = options.hooks;
  const ArenaScope scope(ctx.scratch);
  EvaluationSums sums(ctx, transformer.config());
  double* totals = sums.totals.as<double>();
  TransformerSaved saved;
  Batch batch;
  for (int64_t round = 0; round < rounds; ++round) {
    const int64_t first = std::min(windows, (round * dp.size() + dp.rank()) * windows_at_a_time);
    const int64_t count = std::min(windows_at_a_time, windows - first);
    data.read(first, count, batch);
    batch.pad_to_multiple(mesh.shape().tp);
    const ArenaScope round_scope(ctx.scratch);
    const Tensor losses = evaluate_batch(ctx, transformer, weights, batch, sums, saved);
    for (int64_t i = 0; i < losses.count(); ++i) totals[0] += losses.as<double>()[i];
    totals[1] += static_cast<double>(batch.target_count);
  }
  dp.all_reduce(sums.totals).wait();
  return {totals[0], static_cast<int64_t>(totals[1])};
}

}  // namespace sluice
