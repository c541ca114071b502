#include "kernels/reduce.h"

#include <limits>
#include <type_traits>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

// Blocks are summed by whoever gets them and added up in block order, so the sum does not depend on the threads.
constexpr int64_t kBlock = 4096;
constexpr int64_t kBlocksARound = ThreadPool::kWorkspaceBytes / static_cast<int64_t>(sizeof(double));

template <class T>
double block_sum_squares(const T* x, int64_t n) {
  constexpr int64_t kAtATime = 256;
  LaneSum<double> sum;
  for (int64_t first = 0; first < n; first += kAtATime) {
    fetch_ahead(x + first, kAtATime);
    sum.add(n - first < kAtATime ? n - first : kAtATime, [&](int64_t i) {
      const double value = static_cast<double>(x[first + i]);
      return value * value;
    });
  }
  return sum.total();
}

}  // namespace

void sum_squares(Stream& s, Tensor x, Tensor out) {
  double total = 0;
  dispatch_float(x.dtype, [&]<class T>() {
    const T* values = x.as<T>();
    const int64_t blocks = (x.count() + kBlock - 1) / kBlock;
    // Worker 0's workspace is free for the block sums: sums need none.
    double* sums = static_cast<double*>(s.pool->workspace(0));
    for (int64_t first = 0; first < blocks; first += kBlocksARound) {
      const int64_t round = blocks - first < kBlocksARound ? blocks - first : kBlocksARound;
      parallel_for(s, round, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b) {
          const int64_t start = (first + b) * kBlock;
          const int64_t left = x.count() - start;
          sums[b] = block_sum_squares(values + start, left < kBlock ? left : kBlock);
        }
      });
      for (int64_t b = 0; b < round; ++b) total += sums[b];
    }
  });
  *out.as<double>() = total;
}

void sum(Stream&, Tensor x, Tensor out) {
  const double* values = x.as<double>();
  double total = 0;
  for (int64_t i = 0; i < x.count(); ++i) total += values[i];
  *out.as<double>() = total;
}

void max_abs(Stream& s, Tensor x, Tensor out) {
  // Without the sign, a larger pattern is a larger number, and NaN the largest of all; integers also vectorise.
  int64_t* most = static_cast<int64_t*>(s.pool->workspace(0));
  for (int i = 0; i < s.pool->threads(); ++i) most[i] = 0;
  dispatch_float(x.dtype, [&]<class T>() {
    using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
    const T* values = x.as<T>();
    parallel_for(s, x.count(), kBlock, [&](int64_t begin, int64_t end, int worker) {
      Bits found = 0;
      for (int64_t i = begin; i < end; ++i) {
        const Bits magnitude = __builtin_bit_cast(Bits, values[i]) & std::numeric_limits<Bits>::max();
        found = magnitude > found ? magnitude : found;
      }
      most[worker] = found;
    });
    Bits largest = 0;
    for (int i = 0; i < s.pool->threads(); ++i) {
      if (most[i] > largest) largest = static_cast<Bits>(most[i]);
    }
    *out.as<double>() = static_cast<double>(__builtin_bit_cast(T, largest));
  });
}

void raise_to_column_maxima(Stream&, Tensor x, Tensor out) {
  dispatch_float(x.dtype, [&]<class T>() {
    double* __restrict most = out.as<double>();
    const int64_t columns = out.count();
    for (const T* row = x.as<T>(); row != x.as<T>() + x.count(); row += columns) {
      for (int64_t i = 0; i < columns; ++i) {
        const double value = static_cast<double>(row[i]);
        most[i] = value > most[i] ? value : most[i];
      }
    }
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
