#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace sluice::reference {

/// YaRN: planes that turn at least `fast` times within the original length keep their speed, those that turn at most
/// `slow` times are slowed down by the factor, those between by a part of it that grows with their number.
struct Stretch {
  double factor = 1, original_length = 1, fast = 32, slow = 1;
};

/// How much of the slowing plane i gets.
inline double slowed_part(double base, size_t head_dim, size_t i, const Stretch& by) {
  const auto turns = [&](double plane) {
    const double radians = std::pow(base, -2 * plane / static_cast<double>(head_dim));
    return by.original_length * radians / (2 * std::acos(-1.0));
  };
  double first = 0, last = static_cast<double>(head_dim) - 1;
  while (first < last && turns(first + 1) >= by.fast) ++first;
  while (last > first && turns(last - 1) <= by.slow) --last;
  if (static_cast<double>(i) <= first) return 0;
  return static_cast<double>(i) >= last ? 1 : (static_cast<double>(i) - first) / (last - first);
}

/// Turns the plane (i, i + head_dim / 2) of every head by the angle position * base^(-2 i / head_dim), or what a
/// stretch makes of it.
template <class T>
std::vector<T> rope(const std::vector<T>& x, const std::vector<int32_t>& positions, double base, size_t heads,
                    size_t head_dim, const Stretch& by = {}) {
  std::vector<T> y(x.size());
  const double longer = 1 + 0.1 * std::log(by.factor);
  for (size_t i = 0; i < head_dim / 2; ++i) {
    const double exponent = 2 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double slowed = by.factor == 1 ? 0 : slowed_part(base, head_dim, i, by);
    const double frequency = std::pow(base, -exponent) * (1 - slowed + slowed / by.factor);
    for (size_t row = 0; row < positions.size() * heads; ++row) {
      const double angle = positions[row / heads] * frequency;
      const T real = longer * x[row * head_dim + i], imaginary = longer * x[row * head_dim + i + head_dim / 2];
      y[row * head_dim + i] = real * std::cos(angle) - imaginary * std::sin(angle);
      y[row * head_dim + i + head_dim / 2] = real * std::sin(angle) + imaginary * std::cos(angle);
    }
  }
  return y;
}

}  // namespace sluice::reference
