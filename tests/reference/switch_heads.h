#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/activations.h"
#include "tests/reference/router.h"

namespace sluice::reference {

inline double real_part(double x) { return x; }
inline double real_part(const std::complex<double>& x) { return x.real(); }

template <class T>
std::vector<double> real_parts(const std::vector<T>& x) {
  std::vector<double> real;
  for (const T& value : x) real.push_back(real_part(value));
  return real;
}

/// Every head of y [rows of heads, experts, head_dim] from the top_k of its experts by logits z [rows of heads,
/// experts].
template <class T>
std::vector<T> switch_heads(const std::vector<T>& y, const std::vector<T>& z, size_t experts, size_t top_k,
                            size_t head_dim) {
  const std::vector<int32_t> chosen = top_experts(real_parts(z), experts, top_k);
  std::vector<T> heads(z.size() / experts * head_dim);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const size_t head = i / top_k, expert = head * experts + static_cast<size_t>(chosen[i]);
    for (size_t d = 0; d < head_dim; ++d) heads[head * head_dim + d] += sigmoid(z[expert]) * y[expert * head_dim + d];
  }
  return heads;
}

}  // namespace sluice::reference
