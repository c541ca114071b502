#pragma once

#include "models/context.h"
#include "models/gate.h"
#include "models/key_value_cache.h"
#include "models/parameters.h"

namespace sluice {

/// Query or key heads on their way to the attention, each [tokens, heads, head_dim].
struct ProjectedHeads {
  Tensor raw;      ///< the projection
  Tensor to_norm;  ///< what the norm reads; `raw` itself without a gate before it
  Tensor rstd;     ///< [tokens * heads], with qk_norm
  Tensor rotated;
  GateSaved gate;
};

/// What attention_layer_backward needs of the forward pass: of all tokens, the heads of this rank.
struct AttentionSaved {
  ProjectedHeads q, k;
  Tensor v_gated;  ///< [tokens, kv_heads, head_dim]
  GateSaved v_gate;
  Tensor out, lse;  ///< [tokens, query_heads, head_dim], [tokens, query_heads]
  Tensor gated;     ///< [tokens, query_heads, head_dim]; `out` itself without a gate
  GateSaved out_gate;
};

/// Grouped-query attention with QK-norm, RoPE and gates of queries, keys, values and outputs of heads (paper sections
/// 2.1 to 2.4), added to the residual stream: y += o_proj(gate(attention(x))). Heads are split over mesh.tp(), tokens
/// of x and y too.
///   x      [own tokens, hidden]  normed input
///   y      [own tokens, hidden]  in/out
///   cache  keys and values of earlier tokens, extended by these; null in training
/// Every rank of mesh.tp() calls it.
void attention_layer_forward(StepContext& ctx, const ModelConfig& config, const AttentionTensors& p,
                             const RopeTables& rope, const TokenBatch& batch, Tensor x, Tensor y, AttentionSaved& saved,
                             LayerCache* cache = nullptr);

/// dx [own tokens, hidden] out, the gradient of x; dy [own tokens, hidden] of y; parameter gradients are added to.
/// Every rank of mesh.tp() calls it.
void attention_layer_backward(StepContext& ctx, const ModelConfig& config, const AttentionTensors& p,
                              const RopeTables& rope, const TokenBatch& batch, Tensor x, Tensor dy,
                              const AttentionSaved& saved, Tensor dx, AttentionTensors& grads);

}  // namespace sluice
