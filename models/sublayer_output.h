#pragma once

#include "models/context.h"
#include "models/gate.h"
#include "models/parameters.h"

namespace sluice {

/// What the output of an attention or feed-forward layer meets on its way into the residual stream, in this order; its
/// parameters or gradients.
struct OutputPath {
  const GateSpec* gate = nullptr;  ///< G5, of the attention layer; null: none
  GateTensors gate_tensors;
  Tensor norm;      ///< [hidden], sandwich norm; empty: none
  double eps = 0;   ///< of the norm
  double clip = 0;  ///< largest magnitude; 0: none

  /// Whether the output is added as it is.
  bool plain() const { return !gate && !norm && clip == 0; }
};

OutputPath attention_output_path(const ModelConfig& config, const BlockTensors& p);
OutputPath mlp_output_path(const ModelConfig& config, const BlockTensors& p);

/// What output_path_backward needs of the forward pass, [tokens, hidden] each.
struct OutputPathSaved {
  GateSaved gate;
  Tensor to_norm, rstd;  ///< rstd [tokens]
  Tensor to_clip;
};

/// y = residual + clip(norm(gate(out))).
///   x              [own tokens, hidden]  normed input of the layer
///   out, residual  [own tokens, hidden]; out is kept, in ctx.saved
///   y              [own tokens, hidden]  out, may alias residual
void output_path_forward(StepContext& ctx, const OutputPath& path, Tensor x, Tensor out, Tensor residual, Tensor y,
                         OutputPathSaved& saved);

/// d_out [own tokens, hidden]: in the gradient of y, out that of the layer's output. `grads` are added to, and what
/// comes back to x through the gate to `dx`.
void output_path_backward(StepContext& ctx, const OutputPath& path, Tensor x, const OutputPathSaved& saved,
                          Tensor d_out, InputGradient& dx, const OutputPath& grads);

}  // namespace sluice
