#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// The linear layers of many experts at once, over rows sorted by expert: expert e owns rows
/// [offsets[e], offsets[e+1]); an expert may own none.
///   x        [rows, in]               f32 | f64
///   w        [experts, out, in]       dtype of x
///   offsets  [experts + 1] i64        offsets[0] = 0, ascending, offsets[experts] = rows; on the host
///   y        [rows, out]              out: y_e = x_e w_e^T
/// Throws Error on a shape or dtype mismatch or offsets that are not as said.
void grouped_linear_forward(Stream& s, Tensor x, Tensor w, Tensor offsets, Tensor y);

/// dx_e = dy_e w_e.   dy [rows, out], w [experts, out, in], dx [rows, in] out
void grouped_linear_backward_input(Stream& s, Tensor dy, Tensor w, Tensor offsets, Tensor dx);

/// dw_e = dy_e^T x_e + (accumulate ? dw_e : 0).   dy [rows, out], x [rows, in], dw [experts, out, in] out or in/out
void grouped_linear_backward_weight(Stream& s, Tensor dy, Tensor x, Tensor offsets, Tensor dw, bool accumulate);

}  // namespace sluice
