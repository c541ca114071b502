#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/core/stream.h"

namespace sluice {

/// Splits [0, n) into one contiguous range a worker and runs body(begin, end, worker) on each, then waits. The split
/// depends on n, grain and the number of threads only, so results repeat. Ranges start at multiples of `grain`; a
/// worker left without one is not called.
template <class Body>
void parallel_for(const Stream& s, int64_t n, int64_t grain, const Body& body) {
  const int64_t chunks = (n + grain - 1) / grain;
  const int64_t threads = s.pool->threads();
  if (chunks <= 1 || threads == 1) {
    if (n > 0) body(int64_t{0}, n, 0);
    return;
  }
  struct Job {
    const Body& body;
    int64_t n, grain, chunks, threads;
  } job{body, n, grain, chunks, threads};
  s.pool->run(
      [](void* data, int worker) {
        const Job& job = *static_cast<const Job*>(data);
        const int64_t begin = job.chunks * worker / job.threads * job.grain;
        const int64_t end = std::min(job.n, job.chunks * (worker + 1) / job.threads * job.grain);
        if (begin < end) job.body(begin, end, worker);
      },
      &job);
}

}  // namespace sluice
