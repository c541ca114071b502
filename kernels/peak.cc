#include "kernels/peak.h"

#include <algorithm>
#include <chrono>

#include "kernels/core/backend.h"
#include "kernels/core/parallel_for.h"

SLUICE_BACKENDS(double run_multiply_adds(Stream& s, int64_t rounds);)

namespace sluice {
namespace {

/// Runs `rounds` rounds on the calling thread and returns their operations.
double run_multiply_adds(Stream& s, int64_t rounds) {
  SLUICE_DISPATCH(run_multiply_adds, s, rounds);
  return 0;
}

}  // namespace

double measure_peak_flops(Stream& s) {
  // A core that wakes up for wide vectors takes some milliseconds to its full speed.
  constexpr int64_t kRounds = 200000;
  double best = 0;
  for (int repeat = 0; repeat < 16; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    double operations = 0;
    parallel_for(s, s.pool->threads(), 1, [&](int64_t, int64_t, int worker) {
      const double done = run_multiply_adds(s, kRounds);
      if (worker == 0) operations = done * s.pool->threads();
    });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, operations / elapsed.count());
  }
  return best;
}

}  // namespace sluice
