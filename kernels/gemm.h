#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Bits of the operand as stored: N as it is, T transposed.
enum class Transpose { kNo, kYes };

/// Matrix product: c = op(a) op(b) + (accumulate ? c : 0).
///   a  [m, k] or, transposed, [k, m]   f32 | f64
///   b  [k, n] or, transposed, [n, k]   dtype of a
///   c  [m, n]                          in/out, may not alias
/// Any of m, n, k may be 0. The result of a row does not depend on the other rows' values. Throws Error on a shape or
/// dtype mismatch.
void gemm(Stream& s, Transpose a_transpose, Transpose b_transpose, Tensor a, Tensor b, Tensor c,
          bool accumulate = false);

/// A linear layer without bias: y = x w^T.
///   x  [tokens, in], w [out, in], y [tokens, out] out
inline void linear_forward(Stream& s, Tensor x, Tensor w, Tensor y) {
  gemm(s, Transpose::kNo, Transpose::kYes, x, w, y);
}

/// dx = dy w (added to dx when `accumulate`).
inline void linear_backward_input(Stream& s, Tensor dy, Tensor w, Tensor dx, bool accumulate = false) {
  gemm(s, Transpose::kNo, Transpose::kNo, dy, w, dx, accumulate);
}

/// dw += dy^T x.
inline void linear_backward_weight(Stream& s, Tensor dy, Tensor x, Tensor dw) {
  gemm(s, Transpose::kYes, Transpose::kNo, dy, x, dw, true);
}

}  // namespace sluice
