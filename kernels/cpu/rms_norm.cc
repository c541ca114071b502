#include "kernels/rms_norm.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

// dw of this many rows is summed in the dtype, the blocks' sums in f64.
constexpr int64_t kBlockRows = 64;

template <class T>
void forward_rows(const T* x, const T* w, T eps, T* y, T* rstd, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    LaneSum<T> squares;
    squares.add(width, [&](int64_t i) { return x[i] * x[i]; });
    const T r = T(1) / std::sqrt(squares.total() / static_cast<T>(width) + eps);
    rstd[row] = r;
#pragma GCC ivdep
    for (int64_t i = 0; i < width; ++i) y[i] = x[i] * r * w[i];
  }
}

/// dx of the rows; adds their part of dw to dw_block [width].
template <bool kAccumulate, class T>
void backward_rows(const T* dy, const T* x, const T* w, const T* rstd, T* dx, T* dw_block, int64_t rows,
                   int64_t width) {
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, dx += width) {
    LaneSum<T> dot;
    dot.add(width, [&](int64_t i) { return dy[i] * w[i] * x[i]; });
    const T r = rstd[row];
    const T pull = dot.total() * r * r * r / static_cast<T>(width);
#pragma GCC ivdep
    for (int64_t i = 0; i < width; ++i) {
      const T d = dy[i] * r;
      dw_block[i] = multiply_add(d, x[i], dw_block[i]);
      const T change = multiply_add(d, w[i], -pull * x[i]);
      dx[i] = kAccumulate ? dx[i] + change : change;
    }
  }
}

}  // namespace

void rms_norm_forward(Stream& s, Tensor x, Tensor w, double eps, Tensor y, Tensor rstd) {
  const int64_t width = x.dim(1);
  dispatch_float(x.dtype, [&]<class T>() {
    parallel_for(s, x.dim(0), kBlockRows, [&](int64_t begin, int64_t end, int) {
      forward_rows(x.as<T>() + begin * width, w.as<T>(), static_cast<T>(eps), y.as<T>() + begin * width,
                   rstd.as<T>() + begin, end - begin, width);
    });
  });
}

void rms_norm_backward(Stream& s, Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor dx, Tensor dw,
                       bool accumulate_dx) {
  const int64_t width = x.dim(1);
  dispatch_float(x.dtype, [&]<class T>() {
    const auto worker_sum = [&](int worker) { return static_cast<double*>(s.pool->workspace(worker)); };
    for (int worker = 0; worker < s.pool->threads(); ++worker) {
      std::memset(worker_sum(worker), 0, static_cast<size_t>(width) * sizeof(double));
    }
    const auto rows_of = accumulate_dx ? backward_rows<true, T> : backward_rows<false, T>;
    parallel_for(s, x.dim(0), kBlockRows, [&](int64_t begin, int64_t end, int worker) {
      double* sum = worker_sum(worker);
      T* block = reinterpret_cast<T*>(sum + width);
      for (int64_t row = begin; row < end; row += kBlockRows) {
        const int64_t rows = end - row < kBlockRows ? end - row : kBlockRows;
        std::memset(block, 0, static_cast<size_t>(width) * sizeof(T));
        rows_of(dy.as<T>() + row * width, x.as<T>() + row * width, w.as<T>(), rstd.as<T>() + row,
                dx.as<T>() + row * width, block, rows, width);
        for (int64_t i = 0; i < width; ++i) sum[i] += static_cast<double>(block[i]);
      }
    });
    for (int64_t i = 0; i < width; ++i) {
      double total = 0;
      for (int worker = 0; worker < s.pool->threads(); ++worker) total += worker_sum(worker)[i];
      dw.as<T>()[i] += static_cast<T>(total);
    }
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
