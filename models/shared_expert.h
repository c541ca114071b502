#pragma once

#include "models/mlp.h"

namespace sluice {

/// What shared_expert_backward needs of the forward pass.
struct SharedExpertSaved {
  MlpSaved mlp;
  Tensor out, logits;  ///< [tokens, hidden] before the gate, [tokens, 1]; with a gate
};

/// A dense layer that every token goes through beside its experts: y += sigmoid(x gate^T) mlp(x), without a gate
/// y += mlp(x).
///   gate  [1, hidden]           empty: none
///   x     [own tokens, hidden]  normed input
///   y     [own tokens, hidden]  in/out
/// Every rank of mesh.tp() calls it.
void shared_expert_forward(StepContext& ctx, const MlpTensors& p, Tensor gate, Tensor x, Tensor y,
                           SharedExpertSaved& saved);

/// dx [own tokens, hidden] is added to; dy [own tokens, hidden]; parameter gradients are added to. Every rank of
/// mesh.tp() calls it.
void shared_expert_backward(StepContext& ctx, const MlpTensors& p, Tensor gate, Tensor x, Tensor dy,
                            const SharedExpertSaved& saved, Tensor dx, MlpTensors& grads, Tensor d_gate);

}  // namespace sluice
