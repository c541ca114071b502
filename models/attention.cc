#include "models/attention.h"

#include <cmath>
#include <cstring>

#include "kernels/elementwise.h"
#include "kernels/gate.h"
#include "kernels/gemm.h"
#include "kernels/rms_norm.h"
#include "parallel/token_parallel.h"

namespace sluice {
namespace {

struct HeadShapes {
  int64_t tokens, query_heads, kv_heads, head_dim;

  Shape query() const { return {tokens, query_heads, head_dim}; }
  Shape key() const { return {tokens, kv_heads, head_dim}; }
};

/// Heads of this rank and tokens of its whole tp group.
HeadShapes head_shapes(const StepContext& ctx, const ModelConfig& c, const TokenBatch& batch) {
  const MeshShape& mesh = ctx.mesh.shape();
  return {batch.tokens.dim(0), c.num_attention_heads() / mesh.tp, c.num_key_value_heads() * mesh.kv_copies / mesh.tp,
          c.head_dim()};
}

/// Appends the new keys and values to the cache and makes the attention read the whole of it.
void extend_cache(StepContext& ctx, LayerCache& cache, const AttentionSaved& saved, AttentionInput& in) {
  const int64_t added = saved.k.out.dim(0);
  const int64_t total = cache.length + added;
  INVARIANT(total <= cache.k.dim(0), "key cache of ", cache.k.dim(0), " tokens cannot take ", total);
  cast(ctx.stream, saved.k.out, cache.k.rows(cache.length, added));
  cast(ctx.stream, saved.v.out, cache.v.rows(cache.length, added));
  cache.length = total;
  in.k = cache.k.rows(0, total);
  in.v = cache.v.rows(0, total);
  in.key_offsets = ctx.scratch.alloc("key_offsets", DType::kI32, {2});
  in.key_offsets.as<int32_t>()[0] = 0;
  in.key_offsets.as<int32_t>()[1] = static_cast<int32_t>(total);
}

/// What the output of each head goes through before its gate.
Tensor head_output_forward(StepContext& ctx, const ModelConfig& config, Tensor weight, AttentionSaved& saved) {
  if (config.head_output() == ModelConfig::PLAIN) return saved.out;
  const Tensor y = ctx.saved.alloc("head_output", saved.out.dtype, saved.out.shape);
  if (config.head_output() == ModelConfig::SILU) {
    gate_forward(ctx.stream, {}, saved.out, saved.out, y);  // y sigmoid(y)
    return y;
  }
  saved.head_rstd = ctx.saved.alloc("head_rstd", exact_dtype(y.dtype), {y.dim(0) * y.dim(1)});
  rms_norm_forward(ctx.stream, head_rows(saved.out), weight, config.rms_norm_eps(), head_rows(y), saved.head_rstd);
  return y;
}

/// d: in the gradient of what head_output_forward gives, out that of the attention's output.
void head_output_backward(StepContext& ctx, const ModelConfig& config, Tensor weight, const AttentionSaved& saved,
                          Tensor d, Tensor d_weight) {
  if (config.head_output() == ModelConfig::SILU) {
    const ArenaScope scope(ctx.scratch);
    const Tensor through_sigmoid = ctx.scratch.alloc("d_sigmoid", d.dtype, d.shape);
    gate_backward(ctx.stream, {}, d, saved.out, saved.out, d, through_sigmoid);
    add(ctx.stream, d, through_sigmoid, d);
  } else if (config.head_output() == ModelConfig::RMS_NORM) {
    const Tensor rows = head_rows(d);
    rms_norm_backward(ctx.stream, rows, head_rows(saved.out), weight, saved.head_rstd, rows, d_weight);
  }
}

}  // namespace

AttentionInput attention_input(const ModelConfig& config, const TokenBatch& batch, const AttentionSaved& saved) {
  AttentionInput in;
  in.q = saved.q.out;
  in.k = saved.k.out;
  in.v = saved.v.out;
  in.query_offsets = in.key_offsets = batch.document_offsets;
  in.query_positions = batch.positions;
  in.scale = 1 / std::sqrt(static_cast<double>(config.head_dim()));
  return in;
}

void attention_layer_forward(StepContext& ctx, const ModelConfig& config, const AttentionTensors& p,
                             const RopeTables& rope, const TokenBatch& batch, Tensor own_x, Tensor residual, Tensor y,
                             AttentionSaved& saved, LayerCache* cache) {
  const HeadShapes h = head_shapes(ctx, config, batch);
  const ArenaScope scope(ctx.scratch);
  const Tensor x = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_x);
  const LayerInput input{config, rope, batch.positions, x};
  saved.q = project_heads_forward(ctx, input, query_projection(config, p), h.query_heads);
  saved.k = project_heads_forward(ctx, input, key_projection(config, p), h.kv_heads);
  saved.v = project_heads_forward(ctx, input, value_projection(config, p), h.kv_heads);

  AttentionInput in = attention_input(config, batch, saved);
  if (cache) extend_cache(ctx, *cache, saved, in);
  saved.out = ctx.saved.alloc("attention", x.dtype, h.query());
  saved.lse = ctx.saved.alloc("lse", exact_dtype(x.dtype), {h.tokens, h.query_heads});
  const bool seen = ctx.probe && ctx.probe->sees_logits();
  saved.largest = seen ? ctx.saved.alloc("largest_logits", exact_dtype(x.dtype), saved.lse.shape) : Tensor{};
  attention_forward(ctx.stream, in, saved.out, saved.lse, saved.largest);

  const Tensor heads = head_output_forward(ctx, config, p.head_norm, saved);
  saved.gated =
      gate_layer_forward(ctx, find_gate(config, GateSpec::G1), p.gate(GateSpec::G1), x, heads, saved.out_gate);
  PartialSum out(ctx.stream, ctx.mesh.tp(), ctx.scratch, residual, y);
  gemm(ctx.stream, Transpose::kNo, Transpose::kYes, flat_heads(saved.gated), p.o_proj, out.term(), out.accumulates());
  out.finish();
}

void attention_layer_backward(StepContext& ctx, const ModelConfig& config, const AttentionTensors& p,
                              const RopeTables& rope, const TokenBatch& batch, Tensor own_x, Tensor own_dy,
                              const AttentionSaved& saved, Tensor own_dx, AttentionTensors& grads) {
  const HeadShapes h = head_shapes(ctx, config, batch);
  const ArenaScope scope(ctx.scratch);
  const Tensor x = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_x);
  const Tensor dy = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_dy);
  Tensor d_out = ctx.scratch.alloc("d_attention", x.dtype, h.query());
  linear_backward_weight(ctx.stream, dy, flat_heads(saved.gated), grads.o_proj);
  linear_backward_input(ctx.stream, dy, p.o_proj, flat_heads(d_out));

  PartialSum sum(ctx.stream, ctx.mesh.tp(), ctx.scratch, {}, own_dx);
  InputGradient dx(ctx.stream, sum.term());
  gate_layer_backward(ctx, find_gate(config, GateSpec::G1), p.gate(GateSpec::G1), x, saved.out_gate, d_out, dx,
                      grads.gate(GateSpec::G1));
  head_output_backward(ctx, config, p.head_norm, saved, d_out, grads.head_norm);

  Tensor dq = ctx.scratch.alloc("dq", x.dtype, h.query());
  Tensor dk = ctx.scratch.alloc("dk", x.dtype, h.key());
  Tensor dv = ctx.scratch.alloc("dv", x.dtype, h.key());
  Tensor delta = ctx.scratch.alloc("delta", exact_dtype(x.dtype), {h.tokens, h.query_heads});
  attention_backward(ctx.stream, attention_input(config, batch, saved), saved.out, saved.lse, d_out, delta, dq, dk, dv);

  const LayerInput input{config, rope, batch.positions, x};
  project_heads_backward(ctx, input, value_projection(config, p), saved.v, dv, dx, value_projection(config, grads));
  project_heads_backward(ctx, input, key_projection(config, p), saved.k, dk, dx, key_projection(config, grads));
  project_heads_backward(ctx, input, query_projection(config, p), saved.q, dq, dx, query_projection(config, grads));
  sum.finish();
}

}  // namespace sluice
