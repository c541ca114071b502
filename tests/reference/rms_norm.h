#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace sluice::reference {

/// y = x / sqrt(mean(x^2) + eps) * w over rows of the width of w.
template <class T>
std::vector<T> rms_norm(const std::vector<T>& x, const std::vector<T>& w, double eps) {
  std::vector<T> y(x.size());
  for (size_t row = 0; row < x.size(); row += w.size()) {
    T squares = 0;
    for (size_t i = 0; i < w.size(); ++i) squares += x[row + i] * x[row + i];
    const T rms = std::sqrt(squares / static_cast<double>(w.size()) + eps);
    for (size_t i = 0; i < w.size(); ++i) y[row + i] = x[row + i] / rms * w[i];
  }
  return y;
}

}  // namespace sluice::reference
