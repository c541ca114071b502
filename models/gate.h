#pragma once

#include "models/context.h"
#include "models/parameters.h"

namespace sluice {

/// [tokens, heads, head_dim] or [tokens, heads] as a matrix, also of no tokens.
Tensor flat_heads(Tensor t);

/// The gradient of a layer's input, from every map that reads it.
class InputGradient {
 public:
  /// dx [tokens, hidden] is undefined before the first add().
  InputGradient(Stream& s, Tensor dx) : s_(s), dx_(dx) {}
  /// Adds what comes back through y = x w^T:  dy [tokens, out], w [out, hidden].
  void add(Tensor dy, Tensor w);

 private:
  Stream& s_;
  Tensor dx_;
  bool begun_ = false;
};

/// The gate that a configuration has at a position; null: none.
const GateSpec* find_gate(const ModelConfig& config, GateSpec::Position position);

/// What gate_layer_backward needs of the forward pass; empty without a gate.
struct GateSaved {
  Tensor y;       ///< [tokens, heads, head_dim], what is gated
  Tensor logits;  ///< [tokens, heads(, head_dim)]
};

/// A gate on heads [qiu2025 eq. 5] whose logits are a linear map of the layer's input.
///   spec  null: no gate
///   w     [heads (* head_dim), hidden]
///   x     [tokens, hidden]  normed input of the layer
///   y     [tokens, heads, head_dim]
/// Returns the gated heads, kept in ctx.saved; without a gate y itself.
Tensor gate_layer_forward(StepContext& ctx, const GateSpec* spec, Tensor w, Tensor x, Tensor y, GateSaved& saved);

/// d_out [tokens, heads, head_dim] becomes the gradient of y; dw is added to, and what comes back to x to `dx`.
void gate_layer_backward(StepContext& ctx, const GateSpec* spec, Tensor w, Tensor x, const GateSaved& saved,
                         Tensor d_out, InputGradient& dx, Tensor dw);

}  // namespace sluice
