#include "models/attention.h"

#include <cmath>
#include <cstring>

#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/gate.h"
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

const GateSpec* find_gate(const ModelConfig& config, GateSpec::Position position) {
  for (const GateSpec& gate : config.gates()) {
    if (gate.position() == position) return &gate;
  }
  return nullptr;
}

GateOp gate_op(const GateSpec& spec) {
  GateOp op;
  op.granularity =
      spec.granularity() == GateSpec::HEADWISE ? GateGranularity::kHeadwise : GateGranularity::kElementwise;
  op.combine = spec.combine() == GateSpec::ADD ? GateCombine::kAdd : GateCombine::kMultiply;
  switch (spec.activation()) {
    case GateSpec::SIGMOID:
      op.activation = GateActivation::kSigmoid;
      break;
    case GateSpec::SILU:
      op.activation = GateActivation::kSilu;
      break;
    case GateSpec::NS_SIGMOID:
      op.activation = GateActivation::kNsSigmoid;
      break;
    case GateSpec::IDENTITY:
      op.activation = GateActivation::kIdentity;
      break;
  }
  return op;
}

Shape gate_shape(const GateSpec& spec, const HeadShapes& h) {
  return spec.granularity() == GateSpec::HEADWISE ? Shape{h.tokens, h.query_heads} : h.query();
}

/// [tokens, heads(, head_dim)] as a matrix, also of no tokens.
Tensor flat(Tensor t) { return t.reshaped({t.dim(0), t.shape.rank() == 3 ? t.dim(1) * t.dim(2) : t.dim(1)}); }

/// Projection of x, then norm of each head (when configured) and RoPE.
struct Projected {
  Tensor raw, rstd, rotated;
};

Projected project_and_rotate(StepContext& ctx, const ModelConfig& config, const char* name, Tensor w, Tensor norm,
                             const RopeTables& rope, Tensor positions, Tensor x, Shape shape) {
  Projected p;
  p.raw = ctx.saved.alloc(name, x.dtype, shape);
  linear_forward(ctx.stream, x, w, flat(p.raw));
  p.rotated = ctx.saved.alloc(name, x.dtype, shape);
  Tensor to_rotate = p.raw;
  if (config.qk_norm()) {
    const Shape rows{shape[0] * shape[1], shape[2]};
    p.rstd = ctx.saved.alloc(name, x.dtype, {rows[0]});
    rms_norm_forward(ctx.stream, p.raw.reshaped(rows), norm, config.rms_norm_eps(), p.rotated.reshaped(rows), p.rstd);
    to_rotate = p.rotated;
  }
  rope_forward(ctx.stream, to_rotate, positions, rope.cosine, rope.sine, p.rotated);
  return p;
}

/// Reverse of project_and_rotate: d_rotated is overwritten; dx is added to unless `first`.
void project_and_rotate_backward(StepContext& ctx, const ModelConfig& config, const Projected& p, Tensor w, Tensor norm,
                                 const RopeTables& rope, Tensor positions, Tensor x, Tensor d_rotated, Tensor dx,
                                 bool first, Tensor dw, Tensor dnorm) {
  rope_backward(ctx.stream, d_rotated, positions, rope.cosine, rope.sine, d_rotated);
  if (config.qk_norm()) {
    const Shape rows{d_rotated.dim(0) * d_rotated.dim(1), d_rotated.dim(2)};
    const Tensor d = d_rotated.reshaped(rows);
    rms_norm_backward(ctx.stream, d, p.raw.reshaped(rows), norm, p.rstd, d, dnorm);
  }
  linear_backward_weight(ctx.stream, flat(d_rotated), x, dw);
  linear_backward_input(ctx.stream, flat(d_rotated), w, dx, !first);
}

AttentionInput attention_input(const ModelConfig& config, const TokenBatch& batch, const AttentionSaved& saved) {
  AttentionInput in;
  in.q = saved.q_rotated;
  in.k = saved.k_rotated;
  in.v = saved.v;
  in.query_offsets = in.key_offsets = batch.document_offsets;
  in.query_positions = batch.positions;
  in.scale = 1 / std::sqrt(static_cast<double>(config.head_dim()));
  return in;
}

/// Appends the new keys and values to the cache and makes the attention read the whole of it.
void extend_cache(StepContext& ctx, LayerCache& cache, const AttentionSaved& saved, AttentionInput& in) {
  const int64_t added = saved.k_rotated.dim(0);
  const int64_t total = cache.length + added;
  INVARIANT(total <= cache.k.dim(0), "key cache of ", cache.k.dim(0), " tokens cannot take ", total);
  cast(ctx.stream, saved.k_rotated, cache.k.rows(cache.length, added));
  cast(ctx.stream, saved.v, cache.v.rows(cache.length, added));
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
  const Projected q = project_and_rotate(ctx, config, "q", p.q_proj, p.q_norm, rope, batch.positions, x, h.query());
  const Projected k = project_and_rotate(ctx, config, "k", p.k_proj, p.k_norm, rope, batch.positions, x, h.key());
  saved.q = q.raw, saved.q_rstd = q.rstd, saved.q_rotated = q.rotated;
  saved.k = k.raw, saved.k_rstd = k.rstd, saved.k_rotated = k.rotated;
  saved.v = ctx.saved.alloc("v", x.dtype, h.key());
  linear_forward(ctx.stream, x, p.v_proj, flat(saved.v));

  AttentionInput in = attention_input(config, batch, saved);
  if (cache) extend_cache(ctx, *cache, saved, in);
  saved.out = ctx.saved.alloc("attention", x.dtype, h.query());
  saved.lse = ctx.saved.alloc("lse", x.dtype, {h.tokens, h.query_heads});
  attention_forward(ctx.stream, in, saved.out, saved.lse);

  saved.gated = saved.out;
  if (const GateSpec* gate = find_gate(config, GateSpec::G1)) {
    saved.gate_logits = ctx.saved.alloc("g1", x.dtype, gate_shape(*gate, h));
    linear_forward(ctx.stream, x, p.gates[0], flat(saved.gate_logits));
    saved.gated = ctx.saved.alloc("gated", x.dtype, h.query());
    gate_forward(ctx.stream, gate_op(*gate), saved.out, saved.gate_logits, saved.gated);
  }
  PartialSum out(ctx.stream, ctx.mesh.tp(), ctx.scratch, y, PartialSum::Into::kAdd);
  gemm(ctx.stream, Transpose::kNo, Transpose::kYes, flat(saved.gated), p.o_proj, out.term(), out.accumulates());
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
  linear_backward_weight(ctx.stream, dy, flat(saved.gated), grads.o_proj);
  linear_backward_input(ctx.stream, dy, p.o_proj, flat(d_out));

  PartialSum sum(ctx.stream, ctx.mesh.tp(), ctx.scratch, own_dx, PartialSum::Into::kOverwrite);
  const Tensor dx = sum.term();
  bool first = true;
  if (const GateSpec* gate = find_gate(config, GateSpec::G1)) {
    Tensor d_logits = ctx.scratch.alloc("d_g1", x.dtype, gate_shape(*gate, h));
    gate_backward(ctx.stream, gate_op(*gate), d_out, saved.out, saved.gate_logits, d_out, d_logits);
    linear_backward_weight(ctx.stream, flat(d_logits), x, grads.gates[0]);
    linear_backward_input(ctx.stream, flat(d_logits), p.gates[0], dx);
    first = false;
  }

  Tensor dq = ctx.scratch.alloc("dq", x.dtype, h.query());
  Tensor dk = ctx.scratch.alloc("dk", x.dtype, h.key());
  Tensor dv = ctx.scratch.alloc("dv", x.dtype, h.key());
  Tensor delta = ctx.scratch.alloc("delta", x.dtype, {h.tokens, h.query_heads});
  attention_backward(ctx.stream, attention_input(config, batch, saved), saved.out, saved.lse, d_out, delta, dq, dk, dv);

  linear_backward_weight(ctx.stream, flat(dv), x, grads.v_proj);
  linear_backward_input(ctx.stream, flat(dv), p.v_proj, dx, !first);
  project_and_rotate_backward(ctx, config, {saved.k, saved.k_rstd, saved.k_rotated}, p.k_proj, p.k_norm, rope,
                              batch.positions, x, dk, dx, false, grads.k_proj, grads.k_norm);
  project_and_rotate_backward(ctx, config, {saved.q, saved.q_rstd, saved.q_rotated}, p.q_proj, p.q_norm, rope,
                              batch.positions, x, dq, dx, false, grads.q_proj, grads.q_norm);
  sum.finish();
}

}  // namespace sluice
