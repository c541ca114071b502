#include "kernels/swiglu.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

template <class T>
void forward_row(const T* __restrict g, const T* __restrict u, T* __restrict y, int64_t width) {
  for (int64_t i = 0; i < width; ++i) y[i] = g[i] * sigmoid(g[i]) * u[i];
}

// dg may be g and du may be u: each element is read before it is written.
template <class T>
void backward_row(const T* dy, const T* g, const T* u, T* dg, T* du, int64_t width) {
#pragma GCC ivdep
  for (int64_t i = 0; i < width; ++i) {
    const T gi = g[i], ui = u[i], d = dy[i];
    const T share = sigmoid(gi);
    const T silu = gi * share;
    du[i] = d * silu;
    dg[i] = d * ui * multiply_add(silu, T(1) - share, share);
  }
}

}  // namespace

void swiglu_forward(Stream& s, Tensor gu, Tensor y) {
  const int64_t width = y.dim(1);
  dispatch_float(gu.dtype, [&]<class T>() {
    parallel_for(s, y.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const T* row = gu.as<T>() + t * 2 * width;
        forward_row(row, row + width, y.as<T>() + t * width, width);
      }
    });
  });
}

void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor dgu) {
  const int64_t width = dy.dim(1);
  dispatch_float(gu.dtype, [&]<class T>() {
    parallel_for(s, dy.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const T* row = gu.as<T>() + t * 2 * width;
        T* out = dgu.as<T>() + t * 2 * width;
        backward_row(dy.as<T>() + t * width, row, row + width, out, out + width, width);
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
