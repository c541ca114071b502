#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Rotary position embedding [su2021 eq. 34], rotate-half pairing (i, i + head_dim / 2).
///   x          [tokens, heads, head_dim]          f32 | f64, head_dim even
///   positions  [tokens] i32                       position of each token in its document, below max_positions
///   cosine     [max_positions, head_dim / 2]      dtype of x
///   sine       [max_positions, head_dim / 2]      dtype of x
///   y          [tokens, heads, head_dim]          out, may alias x
/// Throws Error on a shape or dtype mismatch or a position out of the table.
void rope_forward(Stream& s, Tensor x, Tensor positions, Tensor cosine, Tensor sine, Tensor y);

/// dx from dy: the rotation by the opposite angle. dx may alias dy.
void rope_backward(Stream& s, Tensor dy, Tensor positions, Tensor cosine, Tensor sine, Tensor dx);

/// Fills cosine and sine with the angles position * base^(-2 i / head_dim), computed in f64.
void rope_tables(double base, Tensor cosine, Tensor sine);

}  // namespace sluice
