#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// SwiGLU [shazeer2020 eq. 6]: y = silu(g) * u, where a row of gu holds g in its first half and u in its second.
///   gu  [tokens, 2 * width]  f32 | f64
///   y   [tokens, width]      out
/// Throws Error on a shape or dtype mismatch.
void swiglu_forward(Stream& s, Tensor gu, Tensor y);

/// dgu [tokens, 2 * width] out, may alias gu; dy [tokens, width].
void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor dgu);

}  // namespace sluice
