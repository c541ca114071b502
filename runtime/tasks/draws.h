#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/philox.h"

namespace sluice {

/// A sequence of random choices that (seed, name, index) determines.
class Draws {
 public:
  Draws(uint64_t seed, std::string_view name, int64_t index)
      : random_(seed, name), index_(static_cast<uint64_t>(index)) {}

  /// Uniform on 0 .. n - 1.
  int64_t below(int64_t n) { return static_cast<int64_t>(random_.uniform(next_++, index_) * static_cast<double>(n)); }

  template <class T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[static_cast<size_t>(below(int64_t(i)))]);
  }

 private:
  Philox random_;
  uint64_t index_, next_ = 0;
};

}  // namespace sluice
