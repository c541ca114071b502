#pragma once

#include "models/context.h"
#include "models/parameters.h"

namespace sluice {

/// What mlp_backward needs of the forward pass.
struct MlpSaved {
  Tensor gate_up;  ///< [tokens, 2 * width], all tokens, the columns of this rank
};

/// Dense SwiGLU layer: y = residual + down(swiglu(gate_up(x))). Its width is split over mesh.tp(), tokens too.
///   x            [own tokens, hidden]  normed input
///   residual, y  [own tokens, hidden]; residual may be empty, or alias y
/// Every rank of mesh.tp() calls it.
void mlp_forward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor residual, Tensor y, MlpSaved& saved);

/// dx [own tokens, hidden] out; dy [own tokens, hidden]; parameter gradients are added to. saved.gate_up is
/// overwritten. Every rank of mesh.tp() calls it.
void mlp_backward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor dy, const MlpSaved& saved, Tensor dx,
                  MlpTensors& grads);

}  // namespace sluice
