#pragma once

#include "models/context.h"
#include "models/parameters.h"
#include "parallel/expert_exchange.h"

namespace sluice {

/// Who goes where: kept also when a block recomputes its activations, so that a token never changes experts between
/// forward and backward and the collectives run once.
struct Routing {
  Tensor probs, lse;        ///< [tokens, experts], [tokens]
  Tensor indices, weights;  ///< [tokens, top_k] i32, [tokens, top_k]
  Tensor row_of_slot;       ///< [tokens, top_k] i32
  Tensor slot_of_row;       ///< [tokens * top_k] i32
  Tensor balance_gradient;  ///< [experts]
  ExpertExchange exchange;
};

/// What moe_backward needs of the forward pass, beside the routing: what the experts of this rank took, sorted by
/// expert. Empty when they took it in several passes; backward then brings the rows again.
struct MoeSaved {
  Tensor rows, weights;  ///< [rows, hidden], [rows]; empty when the rows are this rank's own, which are gathered again
  Tensor gate_up;        ///< [rows, 2 * width]
};

/// Softmax top-k routing of x [tokens, hidden], with the balance and z losses of this layer added to `sums`.
/// Every rank of the mesh calls it: expert counts are summed over them.
void route(StepContext& ctx, const ModelConfig& config, int64_t layer, const MlpTensors& p, Tensor x,
           const LossScale& scale, StepSums& sums, Routing& routing);

/// Dropless experts: y = residual + sum over a token's experts of weight * expert(x). The weight
/// multiplies the activation before down_proj, so that the expert's output need not be kept for its gradient.
///   x, residual, y  [tokens, hidden]; residual may be empty, or alias y
/// Every rank of mesh.experts() calls it, also with no tokens.
void moe_forward(StepContext& ctx, const MlpTensors& p, const Routing& routing, Tensor x, Tensor residual, Tensor y,
                 MoeSaved& saved);

/// dx [tokens, hidden] out, the gradient of x through experts and router; parameter gradients are added to.
/// saved.gate_up is overwritten. Every rank of mesh.experts() calls it.
void moe_backward(StepContext& ctx, const ModelConfig& config, const MlpTensors& p, const Routing& routing, Tensor x,
                  Tensor dy, const LossScale& scale, const MoeSaved& saved, Tensor dx, MlpTensors& grads);

}  // namespace sluice
