#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace sluice::reference {

/// Turns the plane (i, i + head_dim / 2) of every head by the angle position * base^(-2 i / head_dim).
template <class T>
std::vector<T> rope(const std::vector<T>& x, const std::vector<int32_t>& positions, double base, size_t heads,
                    size_t head_dim) {
  std::vector<T> y(x.size());
  for (size_t row = 0; row < positions.size() * heads; ++row) {
    for (size_t i = 0; i < head_dim / 2; ++i) {
      const double exponent = 2 * static_cast<double>(i) / static_cast<double>(head_dim);
      const double angle = positions[row / heads] * std::pow(base, -exponent);
      const T real = x[row * head_dim + i], imaginary = x[row * head_dim + i + head_dim / 2];
      y[row * head_dim + i] = real * std::cos(angle) - imaginary * std::sin(angle);
      y[row * head_dim + i + head_dim / 2] = real * std::sin(angle) + imaginary * std::cos(angle);
    }
  }
  return y;
}

}  // namespace sluice::reference
