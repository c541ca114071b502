#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// y = bias in every row, or y += bias.
///   bias  [width]        f32 | f64
///   y     [rows, width]  dtype of bias; out, or in/out when `accumulate`
/// Throws Error on a shape or dtype mismatch.
void bias_forward(Stream& s, Tensor bias, Tensor y, bool accumulate);

/// dbias [width] += the sum over rows of dy [rows, width]. The order does not depend on the number of threads.
void bias_backward(Stream& s, Tensor dy, Tensor dbias);

}  // namespace sluice
