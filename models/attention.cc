#include "models/attention.h"

#include <cmath>
#include <cstring>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
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

/// The query or key heads: their parameters, and where their gradients go.
struct HeadProjection {
  const char* name;
  Tensor w, norm;
  const GateSpec* gate;
  Tensor gate_w;
};

HeadProjection query_projection(const ModelConfig& c, const AttentionTensors& p) {
  return {"q", p.q_proj, p.q_norm, find_gate(c, GateSpec::G4), p.gate(GateSpec::G4)};
}
HeadProjection key_projection(const ModelConfig& c, const AttentionTensors& p) {
  return {"k", p.k_proj, p.k_norm, find_gate(c, GateSpec::G3), p.gate(GateSpec::G3)};
}

const GateSpec* gate_before_norm(const HeadProjection& p) {
  return p.gate && p.gate->before_qk_norm() ? p.gate : nullptr;
}
const GateSpec* gate_after_norm(const HeadProjection& p) {
  return p.gate && !p.gate->before_qk_norm() ? p.gate : nullptr;
}

/// What the projections read beside their parameters.
struct LayerInput {
  const ModelConfig& config;
  const RopeTables& rope;
  Tensor positions, x;
};

/// Projection of x, gate and norm of each head (when configured), RoPE.
ProjectedHeads project_and_rotate(StepContext& ctx, const LayerInput& in, const HeadProjection& p, Shape shape) {
  ProjectedHeads heads;
  heads.raw = ctx.saved.alloc(p.name, in.x.dtype, shape);
  linear_forward(ctx.stream, in.x, p.w, flat_heads(heads.raw));
  heads.to_norm = gate_layer_forward(ctx, gate_before_norm(p), p.gate_w, in.x, heads.raw, heads.gate);
  heads.rotated = ctx.saved.alloc(p.name, in.x.dtype, shape);
  Tensor to_rotate = heads.to_norm;
  if (in.config.qk_norm()) {
    const Shape rows{shape[0] * shape[1], shape[2]};
    heads.rstd = ctx.saved.alloc(p.name, in.x.dtype, {rows[0]});
    // A gate behind it needs what the norm gives.
    to_rotate = gate_after_norm(p) ? ctx.saved.alloc(p.name, in.x.dtype, shape) : heads.rotated;
    rms_norm_forward(ctx.stream, heads.to_norm.reshaped(rows), p.norm, in.config.rms_norm_eps(),
                     to_rotate.reshaped(rows), heads.rstd);
  }
  to_rotate = gate_layer_forward(ctx, gate_after_norm(p), p.gate_w, in.x, to_rotate, heads.gate);
  rope_forward(ctx.stream, to_rotate, in.positions, in.rope.cosine, in.rope.sine, heads.rotated);
  return heads;
}

/// Reverse of project_and_rotate: d_rotated is overwritten; `grads` are added to.
void project_and_rotate_backward(StepContext& ctx, const LayerInput& in, const HeadProjection& p,
                                 const ProjectedHeads& heads, Tensor d_rotated, InputGradient& dx,
                                 const HeadProjection& grads) {
  rope_backward(ctx.stream, d_rotated, in.positions, in.rope.cosine, in.rope.sine, d_rotated);
  gate_layer_backward(ctx, gate_after_norm(p), p.gate_w, in.x, heads.gate, d_rotated, dx, grads.gate_w);
  if (in.config.qk_norm()) {
    const Shape rows{d_rotated.dim(0) * d_rotated.dim(1), d_rotated.dim(2)};
    const Tensor d = d_rotated.reshaped(rows);
    rms_norm_backward(ctx.stream, d, heads.to_norm.reshaped(rows), p.norm, heads.rstd, d, grads.norm);
  }
  gate_layer_backward(ctx, gate_before_norm(p), p.gate_w, in.x, heads.gate, d_rotated, dx, grads.gate_w);
  linear_backward_weight(ctx.stream, flat_heads(d_rotated), in.x, grads.w);
  dx.add(flat_heads(d_rotated), p.w);
}

AttentionInput attention_input(const ModelConfig& config, const TokenBatch& batch, const AttentionSaved& saved) {
  AttentionInput in;
  in.q = saved.q.rotated;
  in.k = saved.k.rotated;
  in.v = saved.v_gated;
  in.query_offsets = in.key_offsets = batch.document_offsets;
  in.query_positions = batch.positions;
  in.scale = 1 / std::sqrt(static_cast<double>(config.head_dim()));
  return in;
}

/// Appends the new keys and values to the cache and makes the attention read the whole of it.
void extend_cache(StepContext& ctx, LayerCache& cache, const AttentionSaved& saved, AttentionInput& in) {
  const int64_t added = saved.k.rotated.dim(0);
  const int64_t total = cache.length + added;
  INVARIANT(total <= cache.k.dim(0), "key cache of ", cache.k.dim(0), " tokens cannot take ", total);
  cast(ctx.stream, saved.k.rotated, cache.k.rows(cache.length, added));
  cast(ctx.stream, saved.v_gated, cache.v.rows(cache.length, added));
  cache.length = total;
  in.k = cache.k.rows(0, total);
  in.v = cache.v.rows(0, total);
  in.key_offsets = ctx.scratch.alloc("key_offsets", DType::kI32, {2});
  in.key_offsets.as<int32_t>()[0] = 0;
  in.key_offsets.as<int32_t>()[1] = static_cast<int32_t>(total);
}

}  // namespace

void attention_layer_forward(StepContext& ctx, const ModelConfig& config, const AttentionTensors& p,
                             const RopeTables& rope, const TokenBatch& batch, Tensor own_x, Tensor y,
                             AttentionSaved& saved, LayerCache* cache) {
  const HeadShapes h = head_shapes(ctx, config, batch);
  const ArenaScope scope(ctx.scratch);
  const Tensor x = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_x);
  const LayerInput input{config, rope, batch.positions, x};
  saved.q = project_and_rotate(ctx, input, query_projection(config, p), h.query());
  saved.k = project_and_rotate(ctx, input, key_projection(config, p), h.key());
  const Tensor v = ctx.saved.alloc("v", x.dtype, h.key());
  linear_forward(ctx.stream, x, p.v_proj, flat_heads(v));
  saved.v_gated = gate_layer_forward(ctx, find_gate(config, GateSpec::G2), p.gate(GateSpec::G2), x, v, saved.v_gate);

  AttentionInput in = attention_input(config, batch, saved);
  if (cache) extend_cache(ctx, *cache, saved, in);
  saved.out = ctx.saved.alloc("attention", x.dtype, h.query());
  saved.lse = ctx.saved.alloc("lse", x.dtype, {h.tokens, h.query_heads});
  attention_forward(ctx.stream, in, saved.out, saved.lse);

  saved.gated =
      gate_layer_forward(ctx, find_gate(config, GateSpec::G1), p.gate(GateSpec::G1), x, saved.out, saved.out_gate);
  PartialSum out(ctx.stream, ctx.mesh.tp(), ctx.scratch, y, PartialSum::Into::kAdd);
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

  PartialSum sum(ctx.stream, ctx.mesh.tp(), ctx.scratch, own_dx, PartialSum::Into::kOverwrite);
  InputGradient dx(ctx.stream, sum.term());
  gate_layer_backward(ctx, find_gate(config, GateSpec::G1), p.gate(GateSpec::G1), x, saved.out_gate, d_out, dx,
                      grads.gate(GateSpec::G1));

  Tensor dq = ctx.scratch.alloc("dq", x.dtype, h.query());
  Tensor dk = ctx.scratch.alloc("dk", x.dtype, h.key());
  Tensor dv = ctx.scratch.alloc("dv", x.dtype, h.key());
  Tensor delta = ctx.scratch.alloc("delta", x.dtype, {h.tokens, h.query_heads});
  attention_backward(ctx.stream, attention_input(config, batch, saved), saved.out, saved.lse, d_out, delta, dq, dk, dv);

  gate_layer_backward(ctx, find_gate(config, GateSpec::G2), p.gate(GateSpec::G2), x, saved.v_gate, dv, dx,
                      grads.gate(GateSpec::G2));
  linear_backward_weight(ctx.stream, flat_heads(dv), x, grads.v_proj);
  dx.add(flat_heads(dv), p.v_proj);
  const LayerInput input{config, rope, batch.positions, x};
  project_and_rotate_backward(ctx, input, key_projection(config, p), saved.k, dk, dx, key_projection(config, grads));
  project_and_rotate_backward(ctx, input, query_projection(config, p), saved.q, dq, dx,
                              query_projection(config, grads));
  sum.finish();
}

}  // namespace sluice
