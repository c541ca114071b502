#pragma once

#include <cstdint>

#include "kernels/core/philox.h"

namespace sluice {

/// A pseudo-random permutation of [0, size) that needs no memory: a Feistel network on Philox over the next even power
/// of two, walked until it lands inside.
class Permutation {
 public:
  /// `stream` tells apart permutations of one generator (the epoch).
  Permutation(const Philox& random, uint64_t stream, int64_t size);
  int64_t operator()(int64_t i) const;

 private:
  uint64_t scramble(uint64_t x) const;

  const Philox& random_;
  uint64_t stream_;
  uint64_t size_;
  int half_bits_ = 1;
};

}  // namespace sluice
