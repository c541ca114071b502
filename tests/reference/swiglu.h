#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/activations.h"

namespace sluice::reference {

/// weight * silu(g) * u for rows [g, u] of two halves; no weights: 1.
template <class T>
std::vector<T> swiglu(const std::vector<T>& gu, const std::vector<T>& weights, size_t width) {
  std::vector<T> y(gu.size() / 2);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t g = i / width * 2 * width + i % width;
    y[i] = silu(gu[g]) * gu[g + width];
    if (!weights.empty()) y[i] *= weights[i / width];
  }
  return y;
}

}  // namespace sluice::reference
