#include "kernels/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

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
  expect("x", x, x.dtype, {x.dim(0), x.dim(1), 2 * cosine.dim(1)});
  INVARIANT(exact_dtype(x.dtype) == cosine.dtype, "x: ", dtype_name(x.dtype), " with tables of ",
            dtype_name(cosine.dtype));
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
  SLUICE_DISPATCH(rope_forward, s, x, positions, cosine, sine, y);
}

void rope_backward(Stream& s, Tensor dy, Tensor positions, Tensor cosine, Tensor sine, Tensor dx) {
  check(dy, positions, cosine, sine, dx);
  SLUICE_DISPATCH(rope_backward, s, dy, positions, cosine, sine, dx);
}

std::vector<double> rope_frequencies(double base, int64_t head_dim, const Yarn& yarn) {
  const double width = static_cast<double>(head_dim);
  // The plane that turns so many times within the original length.
  const auto plane = [&](double turns) {
    return width * std::log(yarn.original_length / (2 * std::numbers::pi * turns)) / (2 * std::log(base));
  };
  const double low = std::max(std::floor(plane(yarn.beta_fast)), 0.0);
  const double high = std::max(std::min(std::ceil(plane(yarn.beta_slow)), width - 1), low + 1e-3);
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(base, -2 * static_cast<double>(i) / width);
    const double slowed = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies.push_back(yarn.factor == 1 ? frequency : frequency / yarn.factor * slowed + frequency * (1 - slowed));
  }
  return frequencies;
}

double rope_amplitude(const Yarn& yarn) { return 0.1 * std::log(yarn.factor) + 1; }

void rope_tables(double base, const Yarn& yarn, Tensor cosine, Tensor sine) {
  check_tables(cosine, sine);
  const int64_t half = cosine.dim(1);
  const std::vector<double> frequencies = rope_frequencies(base, 2 * half, yarn);
  const double amplitude = rope_amplitude(yarn);
  dispatch_float(cosine.dtype, [&]<class T>() {
    for (int64_t i = 0; i < half; ++i) {
      for (int64_t position = 0; position < cosine.dim(0); ++position) {
        const double angle = static_cast<double>(position) * frequencies[static_cast<size_t>(i)];
        cosine.as<T>()[position * half + i] = static_cast<T>(amplitude * std::cos(angle));
        sine.as<T>()[position * half + i] = static_cast<T>(amplitude * std::sin(angle));
      }
    }
  });
}

}  // namespace sluice
