#pragma once

#include <cstdint>
#include <vector>

namespace sluice::reference {

/// y * a(z) or y + a(z); a score of z holds for `channels_per_score` neighbouring channels of y.
template <class T, class Activation>
std::vector<T> gate(const std::vector<T>& y, const std::vector<T>& z, int64_t channels_per_score, bool multiply,
                    const Activation& activation) {
  std::vector<T> out(y.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const T score = activation(z[i / static_cast<size_t>(channels_per_score)]);
    out[i] = multiply ? y[i] * score : y[i] + score;
  }
  return out;
}

}  // namespace sluice::reference
