#include "runtime/evaluate.h"

#include <algorithm>

#include "kernels/elementwise.h"

namespace sluice {
namespace {

StepSums scratch_sums(StepContext& ctx, const ModelConfig& config) {
  const int64_t layers = config.num_layers();
  StepSums sums;
  sums.lm_loss = ctx.scratch.alloc("lm_loss", DType::kF64, {1});
  sums.router = ctx.scratch.alloc("router_sums", DType::kF64, {layers, 3});
  sums.expert_counts =
      ctx.scratch.alloc("expert_counts", DType::kI64, {layers, config.has_moe() ? config.moe().num_experts() : 0});
  for (Tensor t : {sums.lm_loss, sums.router, sums.expert_counts}) fill_zero(ctx.stream, t);
  return sums;
}

}  // namespace

EvaluationResult evaluate_set(Stream& s, const Mesh& mesh, const Transformer& transformer, const ModelTensors& weights,
                              const EvaluationData& data, const EvaluationOptions& options, ActivationMemory& memory) {
  ProcessGroup& dp = mesh.dp();
  const int64_t windows = data.windows_read(options.max_windows), windows_at_a_time = options.windows_at_a_time;
  const int64_t rounds = (windows + windows_at_a_time * dp.size() - 1) / (windows_at_a_time * dp.size());
  StepContext ctx = memory.context(s, mesh);
  ctx.probe = options.probe;
  ctx.hooks = options.hooks;
  const ArenaScope scope(ctx.scratch);
  StepSums sums = scratch_sums(ctx, transformer.config());
  Tensor totals = ctx.scratch.alloc("totals", DType::kF64, {2});
  fill_zero(s, totals);
  TransformerSaved saved;
  Batch batch;
  for (int64_t round = 0; round < rounds; ++round) {
    const int64_t first = std::min(windows, (round * dp.size() + dp.rank()) * windows_at_a_time);
    const int64_t count = std::min(windows_at_a_time, windows - first);
    data.read(first, count, batch);
    batch.pad_to_multiple(mesh.shape().tp);
    const ArenaScope round_scope(ctx.scratch);
    Tensor losses = ctx.scratch.alloc("losses", DType::kF64, {static_cast<int64_t>(batch.tokens.size())});
    transformer.evaluate(ctx, weights, token_batch(batch), sums, saved, losses);
    for (int64_t i = 0; i < losses.count(); ++i) totals.as<double>()[0] += losses.as<double>()[i];
    totals.as<double>()[1] += static_cast<double>(batch.target_count);
  }
  dp.all_reduce(totals).wait();
  return {totals.as<double>()[0], static_cast<int64_t>(totals.as<double>()[1])};
}

}  // namespace sluice
