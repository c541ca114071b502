#include "kernels/bias.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

// Columns summed at a time, in f64.
constexpr int64_t kColumns = 64;

}  // namespace

void bias_forward(Stream& s, Tensor bias, Tensor y, bool accumulate) {
  const int64_t width = y.dim(1);
  dispatch_float(y.dtype, [&]<class T>() {
    const T* b = bias.as<T>();
    parallel_for(s, y.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        T* out = y.as<T>() + row * width;
#pragma GCC ivdep
        for (int64_t i = 0; i < width; ++i) out[i] = accumulate ? out[i] + b[i] : b[i];
      }
    });
  });
}

void bias_backward(Stream& s, Tensor dy, Tensor dbias) {
  const int64_t rows = dy.dim(0), width = dy.dim(1);
  dispatch_float(dy.dtype, [&]<class T>() {
    parallel_for(s, (width + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t first = block * kColumns, left = width - first;
        const int64_t columns = left < kColumns ? left : kColumns;
        double sums[kColumns] = {};
        for (int64_t row = 0; row < rows; ++row) {
          const T* d = dy.as<T>() + row * width + first;
          for (int64_t i = 0; i < columns; ++i) sums[i] += static_cast<double>(d[i]);
        }
        for (int64_t i = 0; i < columns; ++i) dbias.as<T>()[first + i] += static_cast<T>(sums[i]);
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
