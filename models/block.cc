#include "models/block.h"

#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"

namespace sluice {
namespace {

/// The whole block; the routing is made when `route_now`, else what is saved is used again.
void forward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p, Tensor y,
             StepSums* sums, BlockSaved& saved, bool route_now, LayerCache* cache) {
  const ModelConfig& config = shared.config;
  const Tensor x = saved.input;
  const int64_t tokens = x.dim(0);
  saved.attention_in = ctx.saved.alloc("attention_in", x.dtype, x.shape);
  saved.attention_rstd = ctx.saved.alloc("attention_rstd", x.dtype, {tokens});
  rms_norm_forward(ctx.stream, x, p.input_norm, config.rms_norm_eps(), saved.attention_in, saved.attention_rstd);
  saved.middle = ctx.saved.alloc("middle", x.dtype, x.shape);
  cast(ctx.stream, x, saved.middle);
  attention_layer_forward(ctx, config, p.attention, shared.rope, shared.batch, saved.attention_in, saved.middle,
                          saved.attention, cache);
  if (ctx.probe && route_now) ctx.probe->see("attention", layer, saved.middle);

  saved.mlp_in = ctx.saved.alloc("mlp_in", x.dtype, x.shape);
  saved.mlp_rstd = ctx.saved.alloc("mlp_rstd", x.dtype, {tokens});
  rms_norm_forward(ctx.stream, saved.middle, p.post_attention_norm, config.rms_norm_eps(), saved.mlp_in,
                   saved.mlp_rstd);
  if (config.has_moe()) {
    if (route_now) route(ctx, config, layer, p.mlp, saved.mlp_in, shared.scale, *sums, saved.routing);
    moe_forward(ctx, p.mlp, saved.routing, saved.mlp_in, saved.middle, y, saved.moe);
  } else {
    cast(ctx.stream, saved.middle, y);
    mlp_forward(ctx, p.mlp, saved.mlp_in, y, saved.mlp);
  }
  if (ctx.probe && route_now) ctx.probe->see("feed-forward", layer, y);
}

StepContext recomputing(StepContext& ctx) {
  return {ctx.stream, ctx.kept,          ctx.recompute, ctx.recompute, ctx.scratch,
          ctx.mesh,   ctx.expert_budget, ctx.hooks,     ctx.probe};
}

void backward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p, BlockSaved& saved,
              Tensor d, BlockTensors& grads) {
  const ModelConfig& config = shared.config;
  const ArenaScope scope(ctx.scratch);
  Tensor d_normed = ctx.scratch.alloc("d_normed", d.dtype, d.shape);
  if (config.has_moe()) {
    moe_backward(ctx, config, p.mlp, saved.routing, saved.mlp_in, d, shared.scale, saved.moe, d_normed, grads.mlp);
  } else {
    mlp_backward(ctx, p.mlp, saved.mlp_in, d, saved.mlp, d_normed, grads.mlp);
  }
  rms_norm_backward(ctx.stream, d_normed, saved.middle, p.post_attention_norm, saved.mlp_rstd, d,
                    grads.post_attention_norm, true);
  if (ctx.probe) ctx.probe->see("gradient behind attention", layer, d);

  attention_layer_backward(ctx, config, p.attention, shared.rope, shared.batch, saved.attention_in, d, saved.attention,
                           d_normed, grads.attention);
  rms_norm_backward(ctx.stream, d_normed, saved.input, p.input_norm, saved.attention_rstd, d, grads.input_norm, true);
  if (ctx.probe) ctx.probe->see("gradient of the input", layer, d);
}

}  // namespace

void block_forward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p, Tensor y,
                   StepSums& sums, BlockSaved& saved, bool recompute, LayerCache* cache) {
  if (!recompute) return forward(ctx, shared, layer, p, y, &sums, saved, true, cache);
  const ArenaScope scope(ctx.recompute);
  StepContext local = recomputing(ctx);
  forward(local, shared, layer, p, y, &sums, saved, true, cache);
}

void block_backward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p,
                    BlockSaved& saved, bool recompute, Tensor d, BlockTensors& grads) {
  if (!recompute) return backward(ctx, shared, layer, p, saved, d, grads);
  const ArenaScope scope(ctx.recompute);
  StepContext local = recomputing(ctx);
  Tensor y = ctx.recompute.alloc("block_out", d.dtype, d.shape);
  forward(local, shared, layer, p, y, nullptr, saved, false, nullptr);
  backward(local, shared, layer, p, saved, d, grads);
}

}  // namespace sluice
