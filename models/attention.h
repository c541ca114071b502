#pragma once

#include "kernels/attention.h"
#include "models/context.h"
#include "models/gate.h"
#include "models/head_projection.h"
#include "models/key_value_cache.h"
#include "models/parameters.h"

namespace sluice {

/// What attention_layer_backward needs of the forward pass: of all tokens, the heads of this rank. Heads are
/// [tokens, heads, head_dim].
struct AttentionSaved {
  ProjectedHeads q, k, v;
  Tensor out, lse;   ///< of the attention; lse [tokens, query_heads]
  Tensor largest;    ///< [tokens, query_heads], the largest logit of a query; only where a probe sees logits
  Tensor head_rstd;  ///< [tokens * query_heads], where the output of heads is normed
  Tensor gated;      ///< what o_proj reads; `out` itself without a gate and another control
  GateSaved out_gate;
};

/// What the attention of a layer read.
AttentionInput attention_input(const ModelConfig& config, const TokenBatch& batch, const AttentionSaved& saved);

/// Grouped-query attention with QK-norm, RoPE and gates of queries, keys, values and outputs of heads (paper sections
/// 2.1 to 2.6): y = residual + o_proj(gate(attention(x))). Heads are split over mesh.tp(), tokens of x and y too.
///   x            [own tokens, hidden]  normed input
///   residual, y  [own tokens, hidden]; residual may be empty, or alias y
///   cache        keys and values of earlier tokens, extended by these; null in training
/// Every rank of mesh.tp() calls it.
void attention_layer_forward(StepContext& ctx, const ModelConfig& config, const AttentionTensors& p,
                             const RopeTables& rope, const TokenBatch& batch, Tensor x, Tensor residual, Tensor y,
                             AttentionSaved& saved, LayerCache* cache = nullptr);

/// dx [own tokens, hidden] out, the gradient of x; dy [own tokens, hidden] of y; parameter gradients are added to.
/// Every rank of mesh.tp() calls it.
void attention_layer_backward(StepContext& ctx, const ModelConfig& config, const AttentionTensors& p,
                              const RopeTables& rope, const TokenBatch& batch, Tensor x, Tensor dy,
                              const AttentionSaved& saved, Tensor dx, AttentionTensors& grads);

}  // namespace sluice
