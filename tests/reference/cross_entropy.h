#pragma once

#include <cstdint>
#include <vector>

#include "tests/reference/softmax.h"

namespace sluice::reference {

/// -log softmax(row)[target] of every row, 0 where the target is -1.
template <class T>
std::vector<T> cross_entropy(const std::vector<T>& logits, const std::vector<int32_t>& targets, size_t vocab) {
  std::vector<T> losses(targets.size());
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] < 0) continue;
    const T* row = &logits[t * vocab];
    losses[t] = log_sum_exp(row, vocab) - row[targets[t]];
  }
  return losses;
}

}  // namespace sluice::reference
