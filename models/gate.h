#pragma once

#include "kernels/gate.h"
#include "models/context.h"
#include "models/parameters.h"

namespace sluice {

/// [tokens, heads, head_dim] or [tokens, heads] as a matrix, also of no tokens.
Tensor flat_heads(Tensor t);
/// [tokens, heads, head_dim] as rows of heads.
Tensor head_rows(Tensor t);
/// [tokens, width] as one head, for a gate without heads.
inline Tensor one_head(Tensor t) { return t.reshaped({t.dim(0), 1, t.dim(1)}); }

/// The gradient of a layer's input, from every map that reads it.
class InputGradient {
 public:
  /// dx [tokens, hidden] is undefined before the first add().
  InputGradient(Stream& s, Tensor dx) : s_(s), dx_(dx) {}
  /// Adds what comes back through y = x w^T:  dy [tokens, out], w [out, hidden].
  void add(Tensor dy, Tensor w);
  /// Whether something has been added.
  bool begun() const { return begun_; }

 private:
  Stream& s_;
  Tensor dx_;
  bool begun_ = false;
};

/// The gate that a configuration has at a position; null: none.
const GateSpec* find_gate(const ModelConfig& config, GateSpec::Position position);

/// What gate_layer_backward needs of the forward pass; empty without a gate.
struct GateSaved {
  Tensor y;        ///< [tokens, heads, head_dim], what is gated
  Tensor logits;   ///< [tokens, heads, head_dim or 1]
  Tensor average;  ///< [tokens, 1, head_dim or 1], over the heads of all ranks of tp, where heads share their scores
};

/// The activation that a gate's configuration asks for.
GateActivation gate_activation(const GateSpec& spec);

/// What a gate applies: its scores are activation(logits).
struct GateScores {
  Tensor logits;
  GateActivation activation;
};
GateScores gate_scores(const GateSpec& spec, const GateSaved& saved);

/// A gate on heads [qiu2025 eq. 5] whose logits are a linear map of the layer's input, a constant, or both.
///   spec  null: no gate
///   x     [tokens, hidden]  normed input of the layer
///   y     [tokens, heads, head_dim]
/// Returns the gated heads, kept in ctx.saved; without a gate y itself. Where heads share their scores, every rank of
/// mesh.tp() calls it.
Tensor gate_layer_forward(StepContext& ctx, const GateSpec* spec, const GateTensors& p, Tensor x, Tensor y,
                          GateSaved& saved);

/// d_out [tokens, heads, head_dim] becomes the gradient of y; `grads` are added to, and what comes back to x to `dx`.
void gate_layer_backward(StepContext& ctx, const GateSpec* spec, const GateTensors& p, Tensor x, const GateSaved& saved,
                         Tensor d_out, InputGradient& dx, const GateTensors& grads);

}  // namespace sluice
