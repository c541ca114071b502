#include "runtime/data/permutation.h"

namespace sluice {
namespace {

constexpr uint64_t kRounds = 6;

}  // namespace

Permutation::Permutation(const Philox& random, uint64_t stream, int64_t size)
    : random_(random), stream_(stream), size_(static_cast<uint64_t>(size)) {
  while ((uint64_t{1} << (2 * half_bits_)) < size_) ++half_bits_;
}

uint64_t Permutation::scramble(uint64_t x) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = x >> half_bits_, right = x & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed = left ^ (random_.words(right, stream_ * kRounds + round)[0] & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t i) const {
  auto x = static_cast<uint64_t>(i);
  do x = scramble(x);
  while (x >= size_);
  return static_cast<int64_t>(x);
}

}  // namespace sluice
