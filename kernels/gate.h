#pragma once

#include "kernels/core/stream.h"

namespace sluice {

enum class GateGranularity { kElementwise, kHeadwise };
enum class GateCombine { kMultiply, kAdd };
enum class GateActivation { kSigmoid, kSilu, kNsSigmoid, kIdentity };

struct GateOp {
  GateGranularity granularity = GateGranularity::kElementwise;
  GateCombine combine = GateCombine::kMultiply;
  GateActivation activation = GateActivation::kSigmoid;
};

/// Gates an attention tensor [qiu2025 eq. 5]: out = y * a(z) or y + a(z); NS-sigmoid is 0.5 + 0.5 sigmoid(z) [eq. 9].
///   y    [tokens, heads, head_dim]  f32 | f64
///   z    [tokens, heads, head_dim] elementwise, [tokens, heads] headwise; dtype of y; the gate's logits
///   out  [tokens, heads, head_dim]  out, may alias y
/// Throws Error on a shape or dtype mismatch.
void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out);

/// Gradient of gate_forward. dout as out; dy [tokens, heads, head_dim] out, may alias dout; dz as z, out.
void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz);

}  // namespace sluice
