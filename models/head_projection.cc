#include "models/head_projection.h"

#include "kernels/gemm.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/switch_heads.h"

namespace sluice {
namespace {

const GateSpec* gate_before_norm(const HeadProjection& p) {
  return p.gate && (!p.rotates || p.gate->before_qk_norm()) ? p.gate : nullptr;
}
const GateSpec* gate_after_norm(const HeadProjection& p) { return p.gate && !gate_before_norm(p) ? p.gate : nullptr; }

}  // namespace

HeadProjection query_projection(const ModelConfig& config, const AttentionTensors& p) {
  return {"q", p.q_proj, nullptr, {}, find_gate(config, GateSpec::G4), p.gate(GateSpec::G4), true, p.q_norm};
}

HeadProjection key_projection(const ModelConfig& config, const AttentionTensors& p) {
  const SwitchHead* pool = switches_keys(config) ? &config.switch_head() : nullptr;
  return {"k", p.k_proj, pool, p.k_router, find_gate(config, GateSpec::G3), p.gate(GateSpec::G3), true, p.k_norm};
}

HeadProjection value_projection(const ModelConfig& config, const AttentionTensors& p) {
  const SwitchHead* pool = config.has_switch_head() ? &config.switch_head() : nullptr;
  return {"v", p.v_proj, pool, p.v_router, find_gate(config, GateSpec::G2), p.gate(GateSpec::G2), false, {}};
}

ProjectedHeads project_heads_forward(StepContext& ctx, const LayerInput& in, const HeadProjection& p, int64_t heads) {
  const int64_t tokens = in.x.dim(0), head_dim = in.config.head_dim();
  const DType dtype = in.x.dtype;
  const Shape shape{tokens, heads, head_dim};
  ProjectedHeads saved;
  saved.raw = ctx.saved.alloc(p.name, dtype, shape);
  if (p.pool) {
    const int64_t experts = p.pool->num_experts();
    saved.pool = ctx.saved.alloc("head_pool", dtype, {tokens, heads, experts, head_dim});
    saved.scores = ctx.saved.alloc("head_scores", dtype, {tokens, heads, experts});
    linear_forward(ctx.stream, in.x, p.w, saved.pool.reshaped({tokens, heads * experts * head_dim}));
    linear_forward(ctx.stream, in.x, p.router, flat_heads(saved.scores));
    switch_heads_forward(ctx.stream, p.pool->top_k(), saved.pool, saved.scores, saved.raw);
  } else {
    linear_forward(ctx.stream, in.x, p.w, flat_heads(saved.raw));
  }
  saved.to_norm = gate_layer_forward(ctx, gate_before_norm(p), p.gate_tensors, in.x, saved.raw, saved.gate);
  saved.out = saved.to_norm;
  if (!p.rotates) return saved;

  const Tensor rotated = ctx.saved.alloc(p.name, dtype, shape);
  Tensor to_rotate = saved.to_norm;
  if (in.config.qk_norm()) {
    saved.rstd = ctx.saved.alloc(p.name, exact_dtype(dtype), {tokens * heads});
    // A gate behind it needs what the norm gives.
    to_rotate = gate_after_norm(p) ? ctx.saved.alloc(p.name, dtype, shape) : rotated;
    rms_norm_forward(ctx.stream, head_rows(saved.to_norm), p.norm, in.config.rms_norm_eps(), head_rows(to_rotate),
                     saved.rstd);
  }
  to_rotate = gate_layer_forward(ctx, gate_after_norm(p), p.gate_tensors, in.x, to_rotate, saved.gate);
  rope_forward(ctx.stream, to_rotate, in.positions, in.rope.cosine, in.rope.sine, rotated);
  saved.out = rotated;
  return saved;
}

void project_heads_backward(StepContext& ctx, const LayerInput& in, const HeadProjection& p,
                            const ProjectedHeads& saved, Tensor d_out, InputGradient& dx, const HeadProjection& grads) {
  if (p.rotates) {
    rope_backward(ctx.stream, d_out, in.positions, in.rope.cosine, in.rope.sine, d_out);
    gate_layer_backward(ctx, gate_after_norm(p), p.gate_tensors, in.x, saved.gate, d_out, dx, grads.gate_tensors);
    if (in.config.qk_norm()) {
      const Tensor d = head_rows(d_out);
      rms_norm_backward(ctx.stream, d, head_rows(saved.to_norm), p.norm, saved.rstd, d, grads.norm);
    }
  }
  gate_layer_backward(ctx, gate_before_norm(p), p.gate_tensors, in.x, saved.gate, d_out, dx, grads.gate_tensors);
  if (!p.pool) {
    linear_backward_weight(ctx.stream, flat_heads(d_out), in.x, grads.w);
    return dx.add(flat_heads(d_out), p.w);
  }
  const ArenaScope scope(ctx.scratch);
  const Tensor d_pool = ctx.scratch.alloc("d_head_pool", d_out.dtype, saved.pool.shape);
  const Tensor d_scores = ctx.scratch.alloc("d_head_scores", d_out.dtype, saved.scores.shape);
  switch_heads_backward(ctx.stream, p.pool->top_k(), d_out, saved.pool, saved.scores, d_pool, d_scores);
  const Tensor d_rows = d_pool.reshaped({d_pool.dim(0), p.w.dim(0)});
  linear_backward_weight(ctx.stream, d_rows, in.x, grads.w);
  linear_backward_weight(ctx.stream, flat_heads(d_scores), in.x, grads.router);
  dx.add(d_rows, p.w);
  dx.add(flat_heads(d_scores), p.router);
}

}  // namespace sluice
