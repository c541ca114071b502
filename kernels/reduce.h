#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Sum of x^2 in f64. The order of the sum depends on the count alone, not on the number of threads.
///   x    any shape, f32 | f64
///   out  [1] f64  out
void sum_squares(Stream& s, Tensor x, Tensor out);

/// Sum of x [n] f64 into out [1] f64, in index order.
void sum(Stream& s, Tensor x, Tensor out);

/// Largest |x| (NaN if any element is), any shape f32 | f64, into out [1] f64.
void max_abs(Stream& s, Tensor x, Tensor out);

/// Raises out [columns] f64 to the largest value of each column of x [rows, columns], f32 | f64. NaN is never larger.
void raise_to_column_maxima(Stream& s, Tensor x, Tensor out);

}  // namespace sluice
