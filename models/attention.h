#pragma once

#include "models/context.h"
#include "models/key_value_cache.h"
#include "models/parameters.h"

namespace sluice {

/// What attention_layer_backward needs of the forward pass: of all tokens, the heads of this rank.
struct AttentionSaved {
  Tensor q, k, v;               ///< projections [tokens, heads, head_dim], before norm and RoPE
  Tensor q_rstd, k_rstd;        ///< [tokens * heads], with qk_norm
  Tensor q_rotated, k_rotated;  ///< [tokens, heads, head_dim]
  Tensor out, lse;              ///< [tokens, query_heads, head_dim], [tokens, query_heads]
  Tensor gate_logits;           ///< G1: [tokens, query_heads(, head_dim)]; empty without
  Tensor gated;                 ///< [tokens, query_heads, head_dim]; `out` itself without a gate
};

/// Grouped-query attention with QK-norm, RoPE and gates (paper section 2.1), added to the residual stream:
/// y += o_proj(gate(attention(x))). Heads are split over mesh.tp(), tokens of x and y too.
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
