#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/reference/softmax.h"

namespace sluice::reference {

/// The experts of every token, by descending score, ties to the lower index.
inline std::vector<int32_t> top_experts(const std::vector<double>& scores, size_t experts, size_t top_k) {
  std::vector<int32_t> chosen;
  for (size_t row = 0; row < scores.size(); row += experts) {
    std::vector<int32_t> order(experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return scores[row + static_cast<size_t>(a)] > scores[row + static_cast<size_t>(b)];
    });
    chosen.insert(chosen.end(), order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top_k));
  }
  return chosen;
}

/// Probabilities of the chosen experts, divided by their sum over a token when `normalize`.
template <class T>
std::vector<T> router_weights(const std::vector<T>& probs, const std::vector<int32_t>& chosen, size_t experts,
                              size_t top_k, bool normalize) {
  std::vector<T> weights(chosen.size());
  for (size_t first = 0; first < chosen.size(); first += top_k) {
    T sum = 0;
    for (size_t k = first; k < first + top_k; ++k) {
      weights[k] = probs[first / top_k * experts + static_cast<size_t>(chosen[k])];
      sum += weights[k];
    }
    for (size_t k = first; normalize && k < first + top_k; ++k) weights[k] /= sum;
  }
  return weights;
}

}  // namespace sluice::reference
