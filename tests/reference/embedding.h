#pragma once

#include <cstdint>
#include <vector>

namespace sluice::reference {

/// Row tokens[t] of the table w for every t.
template <class T>
std::vector<T> embedding(const std::vector<int32_t>& tokens, const std::vector<T>& w, size_t hidden) {
  std::vector<T> y(tokens.size() * hidden);
  for (size_t i = 0; i < y.size(); ++i) y[i] = w[static_cast<size_t>(tokens[i / hidden]) * hidden + i % hidden];
  return y;
}

}  // namespace sluice::reference
