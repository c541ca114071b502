#pragma once

#include <cmath>
#include <complex>
#include <vector>

namespace sluice::reference {

/// log of the sum of exp over `count` numbers from `x`.
template <class T>
T log_sum_exp(const T* x, size_t count) {
  T sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(x[i]);
  return std::log(sum);
}

/// Softmax of rows of `width`.
template <class T>
std::vector<T> softmax(const std::vector<T>& x, size_t width) {
  std::vector<T> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = std::exp(x[i] - log_sum_exp(&x[i / width * width], width));
  return y;
}

}  // namespace sluice::reference
