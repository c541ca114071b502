#include "runtime/data/blend.h"

#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/core/error.h"
#include "kernels/core/philox.h"

namespace sluice {

Blend::Blend(const std::vector<double>& weights, uint64_t seed) : entries_(weights.size(), 0) {
  ENSURE(!weights.empty(), "data.train: expected at least one data set, got none");
  for (size_t k = 0; k < weights.size(); ++k) {
    ENSURE(std::isfinite(weights[k]) && weights[k] > 0, "data.train[", k, "].weight: expected a positive number, got ",
           weights[k]);
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);

  // The set that is furthest behind its share comes next.
  for (int64_t i = 1; i <= kPeriod; ++i) {
    size_t next = 0;
    double largest = -1;
    for (size_t k = 0; k < weights.size(); ++k) {
      const double deficit = weights[k] / sum * static_cast<double>(i) - static_cast<double>(entries_[k]);
      if (deficit > largest) largest = deficit, next = k;
    }
    set_.push_back(static_cast<int32_t>(next));
    ++entries_[next];
  }
  for (size_t k = 0; k < weights.size(); ++k) {
    ENSURE(entries_[k] > 0, "data.train[", k, "].weight: ", weights[k], " is below 1/", kPeriod,
           " of the sum of the weights, ", sum);
  }

  const Philox random(seed, "data.blend");
  for (size_t i = set_.size(); i > 1; --i) {
    std::swap(set_[i - 1], set_[random.words(i)[0] % i]);
  }
  std::vector<int32_t> seen(weights.size(), 0);
  for (const int32_t set : set_) before_.push_back(seen[static_cast<size_t>(set)]++);
}

Blend::Place Blend::place(int64_t sample) const {
  const auto entry = static_cast<size_t>(sample % kPeriod);
  const int32_t set = set_[entry];
  return {set, sample / kPeriod * entries_[static_cast<size_t>(set)] + before_[entry]};
}

}  // namespace sluice
