#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// out = a + b, elementwise; out may alias either.   any shape, f32 | f64
void add(Stream& s, Tensor a, Tensor b, Tensor out);

/// out = a - b, elementwise; out may alias either.   any shape, f32 | f64
void difference(Stream& s, Tensor a, Tensor b, Tensor out);

/// x = 0.
void fill_zero(Stream& s, Tensor x);

/// x *= factor.
void scale(Stream& s, Tensor x, double factor);

/// out = x within -limit .. limit; NaN stays. limit > 0; out may alias x.   any shape, f32 | f64
void clip(Stream& s, Tensor x, double limit, Tensor out);

/// Gradient of clip: dx = dout where -limit <= x <= limit, else 0; dx may alias dout.
void clip_backward(Stream& s, Tensor dout, Tensor x, double limit, Tensor dx);

/// out = x in the dtype of out (f32 and f64 in both directions, bf16 out: round to nearest even).
void cast(Stream& s, Tensor x, Tensor out);

}  // namespace sluice
