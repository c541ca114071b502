#pragma once

#include "models/context.h"
#include "models/gate.h"
#include "models/parameters.h"

namespace sluice {

/// Queries, keys or values: how a configuration makes them of a layer's input, with their parameters or gradients.
struct HeadProjection {
  const char* name;
  Tensor w;                          ///< [heads * experts * head_dim, hidden]
  const SwitchHead* pool = nullptr;  ///< null: one expert a head, without a score
  Tensor router;                     ///< [heads * experts, hidden], with a pool
  const GateSpec* gate = nullptr;    ///< null: none
  GateTensors gate_tensors;
  bool rotates = false;  ///< queries and keys: normed when configured, then RoPE
  Tensor norm;           ///< [head_dim], when normed
};

HeadProjection query_projection(const ModelConfig& config, const AttentionTensors& p);
HeadProjection key_projection(const ModelConfig& config, const AttentionTensors& p);
HeadProjection value_projection(const ModelConfig& config, const AttentionTensors& p);

/// What a projection reads beside its parameters.
struct LayerInput {
  const ModelConfig& config;
  const RopeTables& rope;
  Tensor positions;  ///< [tokens] i32
  Tensor x;          ///< [tokens, hidden], normed input of the layer
};

/// Heads on their way to the attention, each [tokens, heads, head_dim].
struct ProjectedHeads {
  Tensor pool, scores;  ///< [tokens, heads, experts, head_dim], [tokens, heads, experts]; with a pool
  Tensor raw;           ///< the projection
  GateSaved gate;
  Tensor to_norm;  ///< what the norm reads; `raw` itself without a gate before it
  Tensor rstd;     ///< [tokens * heads], when normed
  Tensor out;      ///< what the attention reads
};

/// Projection of in.x, gate, norm of each head and RoPE, as configured; `heads` of this rank. Kept in ctx.saved. Where
/// heads share the scores of a gate, every rank of mesh.tp() calls it.
ProjectedHeads project_heads_forward(StepContext& ctx, const LayerInput& in, const HeadProjection& p, int64_t heads);

/// d_out, as ProjectedHeads::out, is overwritten; `grads` are added to, and what comes back to in.x to `dx`.
void project_heads_backward(StepContext& ctx, const LayerInput& in, const HeadProjection& p,
                            const ProjectedHeads& saved, Tensor d_out, InputGradient& dx, const HeadProjection& grads);

}  // namespace sluice
