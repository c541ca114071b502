#include "kernels/core/philox.h"

#include <cmath>
#include <numbers>

#include <Random123/philox.h>
#include <xxhash.h>

namespace sluice {

Philox::Philox(uint64_t seed, std::string_view name) : key_(XXH3_64bits_withSeed(name.data(), name.size(), seed)) {}

std::array<uint32_t, 4> Philox::words(uint64_t low, uint64_t high) const {
  const r123::Philox4x32::ctr_type counter = {{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                                               static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)}};
  const r123::Philox4x32::key_type key = {{static_cast<uint32_t>(key_), static_cast<uint32_t>(key_ >> 32)}};
  const auto r = r123::Philox4x32()(counter, key);
  return {r[0], r[1], r[2], r[3]};
}

double Philox::uniform(uint64_t low, uint64_t high) const {
  const auto r = words(low, high);
  return static_cast<double>((uint64_t{r[0]} << 21) ^ (r[1] >> 11)) * 0x1p-53;
}

std::array<double, 4> Philox::normals(uint64_t block, uint64_t high) const {
  const auto r = words(block, high);
  std::array<double, 4> out;
  for (size_t i = 0; i < 4; i += 2) {
    // (0, 1] keeps the logarithm finite.
    const double u = (static_cast<double>(r[i]) + 1.0) * 0x1p-32;
    const double angle = 2.0 * std::numbers::pi * ((static_cast<double>(r[i + 1]) + 0.5) * 0x1p-32);
    const double radius = std::sqrt(-2.0 * std::log(u));
    out[i] = radius * std::cos(angle);
    out[i + 1] = radius * std::sin(angle);
  }
  return out;
}

}  // namespace sluice
