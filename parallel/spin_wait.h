#pragma once

#include <sched.h>

namespace sluice {

/// Waiting for another rank of the node: at first by spinning, then, or when ranks share cores, by giving way.
class SpinWait {
 public:
  explicit SpinWait(bool crowded) : spins_(crowded ? kSpins : 0) {}
  void once() {
    if (spins_ < kSpins) {
      ++spins_;
      __builtin_ia32_pause();
    } else {
      sched_yield();
    }
  }

 private:
  static constexpr int kSpins = 4000;
  int spins_;
};

}  // namespace sluice
