#pragma once

#include "kernels/core/stream.h"

namespace sluice {

enum class GateCombine { kMultiply, kAdd };
enum class GateActivation { kSigmoid, kSilu, kNsSigmoid, kTwiceSigmoid, kIdentity };

struct GateOp {
  GateCombine combine = GateCombine::kMultiply;
  GateActivation activation = GateActivation::kSigmoid;
};

/// Gates an attention tensor [qiu2025 eq. 5]: out = y * a(z) or y + a(z); NS-sigmoid is 0.5 + 0.5 sigmoid(z) [eq. 9],
/// twice sigmoid starts at 1.
///   y    [tokens, heads, head_dim]            f32 | f64
///   z    [tokens, heads | 1, head_dim | 1]    dtype of y; logits of each head or of all, of each channel or of a head
///   out  [tokens, heads, head_dim]            out, may alias y
/// Throws Error on a shape or dtype mismatch.
void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out);

/// Gradient of gate_forward. dout as out; dy [tokens, heads, head_dim] out, may alias dout; dz as z, out.
void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz);

/// What heads that share their scores contribute to them: out = weight * sum over heads of a(z).
///   z    [tokens, heads, width]  f32 | f64
///   out  [tokens, 1, width]      out, dtype of z
/// Throws Error on a shape or dtype mismatch.
void head_average_forward(Stream& s, GateActivation activation, double weight, Tensor z, Tensor out);

/// Gradient of head_average_forward. dout as out; dz as z, out.
void head_average_backward(Stream& s, GateActivation activation, double weight, Tensor dout, Tensor z, Tensor dz);

}  // namespace sluice
