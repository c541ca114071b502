#include "kernels/rope.h"

#include <cmath>

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void rope_forward(Stream& s, Tensor x, Tensor positions, Tensor cosine, Tensor sine, Tensor y);
                void rope_backward(Stream& s, Tensor dy, Tensor positions, Tensor cosine, Tensor sine, Tensor dx);)

namespace sluice {
namespace {

void check_tables(Tensor cosine, Tensor sine) {
  INVARIANT(cosine.dtype == DType::kF32 || cosine.dtype == DType::kF64, "cosine: expected f32 or f64, got ",
            dtype_name(cosine.dtype));
  INVARIANT(cosine.shape.rank() == 2, "cosine: expected [max_positions, head_dim / 2], got ", to_string(cosine.shape));
  expect("sine", sine, cosine.dtype, cosine.shape);
}

void check(Tensor x, Tensor positions, Tensor cosine, Tensor sine, Tensor y) {
  check_tables(cosine, sine);
  INVARIANT(x.shape.rank() == 3, "x: expected [tokens, heads, head_dim], got ", to_string(x.shape));
  expect("x", x, cosine.dtype, {x.dim(0), x.dim(1), 2 * cosine.dim(1)});
  expect("y", y, x.dtype, x.shape);
  expect("positions", positions, DType::kI32, {x.dim(0)});
  for (int64_t t = 0; t < x.dim(0); ++t) {
    const int32_t position = positions.as<int32_t>()[t];
    ENSURE(position >= 0 && position < cosine.dim(0), "position ", position, " of token ", t,
           " is outside the table of ", cosine.dim(0), " positions");
  }
}

}  // namespace

void rope_forward(Stream& s, Tensor x, Tensor positions, Tensor cosine, Tensor sine, Tensor y) {
  check(x, positions, cosine, sine, y);
  SLUICE_DISPATCH(s, rope_forward(s, x, positions, cosine, sine, y));
}

void rope_backward(Stream& s, Tensor dy, Tensor positions, Tensor cosine, Tensor sine, Tensor dx) {
  check(dy, positions, cosine, sine, dx);
  SLUICE_DISPATCH(s, rope_backward(s, dy, positions, cosine, sine, dx));
}

void rope_tables(double base, Tensor cosine, Tensor sine) {
  check_tables(cosine, sine);
  const int64_t half = cosine.dim(1);
  dispatch_float(cosine.dtype, [&]<class T>() {
    for (int64_t i = 0; i < half; ++i) {
      const double frequency = std::pow(base, -static_cast<double>(i) / static_cast<double>(half));
      for (int64_t position = 0; position < cosine.dim(0); ++position) {
        const double angle = static_cast<double>(position) * frequency;
        cosine.as<T>()[position * half + i] = static_cast<T>(std::cos(angle));
        sine.as<T>()[position * half + i] = static_cast<T>(std::sin(angle));
      }
    }
  });
}

}  // namespace sluice
