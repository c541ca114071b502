#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sluice {

/// Counter-based random numbers (Philox4x32-10 [salmon2011]): a pure function of (key, counter), so that a value does
/// not depend on who computes it or in which order.
class Philox {
 public:
  explicit Philox(uint64_t key) : key_(key) {}
  /// A stream of its own for (seed, name), for instance a parameter's.
  Philox(uint64_t seed, std::string_view name);

  /// Four random words for the counter (high, low).
  std::array<uint32_t, 4> words(uint64_t low, uint64_t high = 0) const;
  /// Uniform on [0, 1), 53 bits.
  double uniform(uint64_t low, uint64_t high = 0) const;
  /// Elements 4 * block .. 4 * block + 3 of an endless sequence of standard normal numbers (Box-Muller in f64).
  std::array<double, 4> normals(uint64_t block, uint64_t high = 0) const;

 private:
  uint64_t key_;
};

}  // namespace sluice
