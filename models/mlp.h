#pragma once

#include "models/context.h"
#include "models/parameters.h"

namespace sluice {

/// What mlp_backward needs of the forward pass.
struct MlpSaved {
  Tensor gate_up;  ///< [tokens, 2 * width], all tokens, the columns of this rank
};

/// Dense SwiGLU layer, added to the residual stream: y += down(swiglu(gate_up(x))). Its width is split over mesh.tp(),
/// tokens of x and y too.
///   x [own tokens, hidden] normed input, y [own tokens, hidden] in/out
/// Every rank of mesh.tp() calls it.
void mlp_forward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor y, MlpSaved& saved);

/// dx [own tokens, hidden] out; dy [own tokens, hidden]; parameter gradients are added to. saved.gate_up is
/// overwritten. Every rank of mesh.tp() calls it.
void mlp_backward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor dy, const MlpSaved& saved, Tensor dx,
                  MlpTensors& grads);

}  // namespace sluice
