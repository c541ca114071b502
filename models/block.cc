#include "models/block.h"

#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"

namespace sluice {
namespace {

/// y = residual + what `layer` makes of its normed input x, through the output path where there is one.
///   layer(residual, y)  y = residual + layer(x); residual may be empty
template <class Layer>
void add_output(StepContext& ctx, const OutputPath& path, Tensor x, Tensor residual, Tensor y, OutputPathSaved& saved,
                const Layer& layer) {
  if (path.plain()) return layer(residual, y);
  const Tensor out = ctx.saved.alloc("sublayer_output", y.dtype, y.shape);
  layer(Tensor{}, out);
  output_path_forward(ctx, path, x, out, residual, y, saved);
}

/// dx = what comes back to the normed input x from the gradient dy of y in add_output.
///   layer(d_out, dx)  of the layer's output and input
template <class Layer>
void output_backward(StepContext& ctx, const OutputPath& path, Tensor x, const OutputPathSaved& saved, Tensor dy,
                     Tensor dx, const OutputPath& grads, const Layer& layer) {
  if (path.plain()) return layer(dy, dx);
  const ArenaScope scope(ctx.scratch);
  const Tensor d_out = ctx.scratch.alloc("d_sublayer_output", dy.dtype, dy.shape);
  cast(ctx.stream, dy, d_out);
  const Tensor through_gate = ctx.scratch.alloc("d_gate_input", dx.dtype, dx.shape);
  InputGradient gate_input(ctx.stream, through_gate);
  output_path_backward(ctx, path, x, saved, d_out, gate_input, grads);
  layer(d_out, dx);
  if (gate_input.begun()) add(ctx.stream, dx, through_gate, dx);
}

/// The whole block; the routing is made when `route_now`, else what is saved is used again.
void forward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p, Tensor y,
             StepSums* sums, BlockSaved& saved, bool route_now, LayerCache* cache) {
  const ModelConfig& config = shared.config;
  const Tensor x = saved.input;
  const int64_t tokens = x.dim(0);
  saved.attention_in = ctx.saved.alloc("attention_in", x.dtype, x.shape);
  saved.attention_rstd = ctx.saved.alloc("attention_rstd", exact_dtype(x.dtype), {tokens});
  rms_norm_forward(ctx.stream, x, p.input_norm, config.rms_norm_eps(), saved.attention_in, saved.attention_rstd);
  saved.middle = ctx.saved.alloc("middle", x.dtype, x.shape);
  add_output(ctx, attention_output_path(config, p), saved.attention_in, x, saved.middle, saved.attention_path,
             [&](Tensor residual, Tensor out) {
               attention_layer_forward(ctx, config, p.attention, shared.rope, shared.batch, saved.attention_in,
                                       residual, out, saved.attention, cache);
             });
  if (ctx.probe && route_now) ctx.probe->see("attention", layer, saved.middle);

  saved.mlp_in = ctx.saved.alloc("mlp_in", x.dtype, x.shape);
  saved.mlp_rstd = ctx.saved.alloc("mlp_rstd", exact_dtype(x.dtype), {tokens});
  rms_norm_forward(ctx.stream, saved.middle, p.post_attention_norm, config.rms_norm_eps(), saved.mlp_in,
                   saved.mlp_rstd);
  if (config.has_moe() && route_now) {
    route(ctx, config, layer, p.mlp, saved.mlp_in, shared.scale, *sums, saved.routing);
  }
  add_output(
      ctx, mlp_output_path(config, p), saved.mlp_in, saved.middle, y, saved.mlp_path, [&](Tensor residual, Tensor out) {
        if (!config.has_moe()) return mlp_forward(ctx, p.mlp, saved.mlp_in, residual, out, saved.mlp);
        moe_forward(ctx, p.mlp, saved.routing, saved.mlp_in, residual, out, saved.moe);
        if (has_shared_expert(config)) {
          shared_expert_forward(ctx, p.shared_expert, p.shared_expert_gate, saved.mlp_in, out, saved.shared_expert);
        }
      });
  if (ctx.probe && route_now) {
    ctx.probe->see("feed-forward", layer, y);
    if (ctx.probe->sees_blocks()) ctx.probe->see_block(ctx, layer, shared.batch, saved, y);
  }
}

StepContext recomputing(StepContext& ctx) {
  return {ctx.stream, ctx.kept,          ctx.recompute,           ctx.recompute, ctx.scratch,
          ctx.mesh,   ctx.expert_budget, ctx.gradients_hold_sums, ctx.hooks,     ctx.probe};
}

void backward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p, BlockSaved& saved,
              Tensor d, BlockTensors& grads) {
  const ModelConfig& config = shared.config;
  const ArenaScope scope(ctx.scratch);
  Tensor d_normed = ctx.scratch.alloc("d_normed", d.dtype, d.shape);
  output_backward(ctx, mlp_output_path(config, p), saved.mlp_in, saved.mlp_path, d, d_normed,
                  mlp_output_path(config, grads), [&](Tensor d_out, Tensor dx) {
                    if (!config.has_moe()) {
                      return mlp_backward(ctx, p.mlp, saved.mlp_in, d_out, saved.mlp, dx, grads.mlp);
                    }
                    moe_backward(ctx, config, p.mlp, saved.routing, saved.mlp_in, d_out, shared.scale, saved.moe, dx,
                                 grads.mlp);
                    if (has_shared_expert(config)) {
                      shared_expert_backward(ctx, p.shared_expert, p.shared_expert_gate, saved.mlp_in, d_out,
                                             saved.shared_expert, dx, grads.shared_expert, grads.shared_expert_gate);
                    }
                  });
  rms_norm_backward(ctx.stream, d_normed, saved.middle, p.post_attention_norm, saved.mlp_rstd, d,
                    grads.post_attention_norm, true);
  if (ctx.probe) ctx.probe->see("gradient behind attention", layer, d);

  output_backward(ctx, attention_output_path(config, p), saved.attention_in, saved.attention_path, d, d_normed,
                  attention_output_path(config, grads), [&](Tensor d_out, Tensor dx) {
                    attention_layer_backward(ctx, config, p.attention, shared.rope, shared.batch, saved.attention_in,
                                             d_out, saved.attention, dx, grads.attention);
                  });
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
