#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// SwiGLU [shazeer2020 eq. 6], optionally weighted: y = w * silu(g) * u, where a row of gu holds g in its first half
/// and u in its second.
///   gu       [tokens, 2 * width]  f32 | f64
///   weights  [tokens]             one a row, dtype of gu; empty: 1
///   y        [tokens, width]      out
/// Throws Error on a shape or dtype mismatch.
void swiglu_forward(Stream& s, Tensor gu, Tensor weights, Tensor y);

/// Gradients, and y once more, so that nobody has to keep it.
///   dy        [tokens, width]
///   y         [tokens, width]      out, what swiglu_forward gives; may alias dy
///   dgu       [tokens, 2 * width]  out, may alias gu
///   dweights  [tokens]             out; empty when weights are
void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor weights, Tensor y, Tensor dgu, Tensor dweights);

}  // namespace sluice
