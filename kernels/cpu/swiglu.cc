#include "kernels/swiglu.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

template <class T>
void forward_row(const T* __restrict g, const T* __restrict u, T weight, T* __restrict y, int64_t width) {
  for (int64_t i = 0; i < width; ++i) y[i] = weight * (g[i] * sigmoid(g[i]) * u[i]);
}

/// Returns the gradient of the weight. dg may be g, du may be u and y may be dy: each element is read before it is
/// written.
template <class T>
T backward_row(const T* dy, const T* g, const T* u, T weight, T* y, T* dg, T* du, int64_t width) {
  LaneSum<T> dweight;
  const auto one = [&](int64_t i) {
    const T gi = g[i], ui = u[i], d = dy[i];
    const T share = sigmoid(gi);
    const T silu = gi * share;
    const T scaled = weight * d;
    du[i] = scaled * silu;
    dg[i] = scaled * ui * multiply_add(silu, T(1) - share, share);
    y[i] = weight * (silu * ui);
    return d * (silu * ui);
  };
  constexpr int kLanes = LaneSum<T>::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < kLanes; ++lane) dweight.lanes[lane] += one(i + lane);
  }
  for (int lane = 0; i < width; ++i, ++lane) dweight.lanes[lane] += one(i);
  return dweight.total();
}

}  // namespace

void swiglu_forward(Stream& s, Tensor gu, Tensor weights, Tensor y) {
  const int64_t width = y.dim(1);
  dispatch_float(gu.dtype, [&]<class T>() {
    const T* weight = weights ? weights.as<T>() : nullptr;
    parallel_for(s, y.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const T* row = gu.as<T>() + t * 2 * width;
        forward_row(row, row + width, weight ? weight[t] : T(1), y.as<T>() + t * width, width);
      }
    });
  });
}

void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor weights, Tensor y, Tensor dgu, Tensor dweights) {
  const int64_t width = dy.dim(1);
  dispatch_float(gu.dtype, [&]<class T>() {
    const T* weight = weights ? weights.as<T>() : nullptr;
    parallel_for(s, dy.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const T* row = gu.as<T>() + t * 2 * width;
        T* out = dgu.as<T>() + t * 2 * width;
        const T dweight = backward_row(dy.as<T>() + t * width, row, row + width, weight ? weight[t] : T(1),
                                       y.as<T>() + t * width, out, out + width, width);
        if (weight) dweights.as<T>()[t] = dweight;
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
