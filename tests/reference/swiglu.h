#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/activations.h"

namespace sluice::reference {

/// silu(g) * u for rows [g, u] of two halves.
template <class T>
std::vector<T> swiglu(const std::vector<T>& gu, size_t width) {
  std::vector<T> y(gu.size() / 2);
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t g = i / width * 2 * width + i % width;
    y[i] = silu(gu[g]) * gu[g + width];
  }
  return y;
}

}  // namespace sluice::reference
