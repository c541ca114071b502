#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

// Tools to judge kernels by: gradients from the equation itself, one measure of error, and repeatable inputs.
namespace sluice::reference {

using Complex = std::complex<double>;

/// `count` numbers between -1 and 1; the same for the same seed.
inline std::vector<double> test_data(int64_t count, uint64_t seed) {
  std::vector<double> values(static_cast<size_t>(count));
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (double& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<double>(state >> 11) * 0x1p-52 - 1;
  }
  return values;
}

/// ||got - want||_2 / ||want||_2; NaN or infinity where `got` has one.
inline double relative_l2(const std::vector<double>& got, const std::vector<double>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got.at(i) - want[i]) * (got.at(i) - want[i]);
    norm += want[i] * want[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

/// Directions in the space of a tensor that together touch each element once, so that a few of them see every error of
/// a large gradient. A tensor of at most `most` elements has one direction an element.
class Directions {
 public:
  /// `most` is a prime, so that no direction lies along one channel.
  explicit Directions(int64_t elements, size_t most = 61)
      : weights_(test_data(elements, 99)), count_(weights_.size() < most ? weights_.size() : most) {
    for (double& weight : weights_) weight += weight < 0 ? -0.5 : 0.5;
  }

  /// The slopes of a scalar function along the directions at `x`: Im f(x + i h u) / h, exact to rounding.
  ///   f  takes a vector of Complex, returns Complex
  template <class F>
  std::vector<double> slopes(const std::vector<double>& x, const F& f) const {
    constexpr double kStep = 1e-100;
    std::vector<double> result(count_);
    for (size_t direction = 0; direction < count_; ++direction) {
      std::vector<Complex> moved(x.begin(), x.end());
      for (size_t i = direction; i < x.size(); i += count_) moved[i] += Complex(0, kStep * weights_[i]);
      result[direction] = std::imag(f(moved)) / kStep;
    }
    return result;
  }

  /// The slopes that a gradient predicts.
  std::vector<double> project(const std::vector<double>& gradient) const {
    std::vector<double> result(count_);
    for (size_t i = 0; i < weights_.size(); ++i) result[i % count_] += weights_[i] * gradient.at(i);
    return result;
  }

 private:
  std::vector<double> weights_;
  size_t count_;
};

template <class T>
std::vector<T> as_type(const std::vector<double>& values) {
  return std::vector<T>(values.begin(), values.end());
}

/// sum of a * b: turns a tensor into a scalar whose gradient is the backward pass of `a`.
template <class T>
T weighted_sum(const std::vector<double>& a, const std::vector<T>& b) {
  T sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b.at(i);
  return sum;
}

}  // namespace sluice::reference
