#include "kernels/rope.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// Rotates the pairs (i, i + half) of every head by the angle of the table, or by its opposite.
template <bool kOpposite, class T>
void rotate_heads(const T* x, const T* cosine, const T* sine, T* y, int64_t heads, int64_t half) {
  for (int64_t h = 0; h < heads; ++h, x += 2 * half, y += 2 * half) {
#pragma GCC ivdep
    for (int64_t i = 0; i < half; ++i) {
      const T sin = kOpposite ? -sine[i] : sine[i];
      const T first = x[i], second = x[i + half];
      y[i] = multiply_add(first, cosine[i], -second * sin);
      y[i + half] = multiply_add(second, cosine[i], first * sin);
    }
  }
}

template <bool kOpposite>
void rotate(Stream& s, Tensor x, Tensor positions, Tensor cosine, Tensor sine, Tensor y) {
  const int64_t heads = x.dim(1), half = cosine.dim(1);
  dispatch_float(x.dtype, [&]<class T>() {
    parallel_for(s, x.dim(0), 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t angles = positions.as<int32_t>()[t] * half, first = t * heads * 2 * half;
        rotate_heads<kOpposite>(x.as<T>() + first, cosine.as<T>() + angles, sine.as<T>() + angles, y.as<T>() + first,
                                heads, half);
      }
    });
  });
}

}  // namespace

void rope_forward(Stream& s, Tensor x, Tensor positions, Tensor cosine, Tensor sine, Tensor y) {
  rotate<false>(s, x, positions, cosine, sine, y);
}

void rope_backward(Stream& s, Tensor dy, Tensor positions, Tensor cosine, Tensor sine, Tensor dx) {
  rotate<true>(s, dy, positions, cosine, sine, dx);
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
