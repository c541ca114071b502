#pragma once

#include <cstdint>
#include <vector>

namespace sluice {

/// Which set a sample comes from: a table of 4096 entries from (weights, seed), repeated for ever, that holds every set
/// in proportion to its weight.
class Blend {
 public:
  static constexpr int64_t kPeriod = 4096;

  /// Throws Error for a weight that is not positive and finite, or below 1/4096 of their sum.
  Blend(const std::vector<double>& weights, uint64_t seed);

  struct Place {
    int32_t set;
    int64_t index;  ///< how many samples of this set came before
  };
  Place place(int64_t sample) const;

 private:
  std::vector<int32_t> set_, before_;  // [kPeriod] the set; its entries earlier in the table
  std::vector<int64_t> entries_;       // [sets] in the whole table
};

}  // namespace sluice
