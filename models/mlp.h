#pragma once

#include "models/context.h"
#include "models/parameters.h"

namespace sluice {

/// What mlp_backward needs of the forward pass.
struct MlpSaved {
  Tensor gate_up;  ///< [tokens, 2 * width]
};

/// Dense SwiGLU layer, added to the residual stream: y += down(swiglu(gate_up(x))).
///   x [tokens, hidden] normed input, y [tokens, hidden] in/out
void mlp_forward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor y, MlpSaved& saved);

/// dx [tokens, hidden] out; dy [tokens, hidden]; parameter gradients are added to.
/// saved.gate_up is overwritten.
void mlp_backward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor dy, const MlpSaved& saved, Tensor dx,
                  MlpTensors& grads);

}  // namespace sluice
