#include "kernels/switch_heads.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// Whether an expert is among the top_k of its pool z [experts].
template <class T>
bool chosen(const T* z, int64_t experts, int64_t expert, int64_t top_k) {
  int64_t before = 0;
  for (int64_t e = 0; e < experts; ++e) before += z[e] > z[expert] || (z[e] == z[expert] && e < expert);
  return before < top_k;
}

template <class T>
void forward_head(const T* y, const T* z, T* out, int64_t experts, int64_t head_dim, int64_t top_k) {
  for (int64_t i = 0; i < head_dim; ++i) out[i] = 0;
  for (int64_t e = 0; e < experts; ++e, y += head_dim) {
    if (!chosen(z, experts, e, top_k)) continue;
    const T share = sigmoid(z[e]);
#pragma GCC ivdep
    for (int64_t i = 0; i < head_dim; ++i) out[i] = multiply_add(share, y[i], out[i]);
  }
}

template <class T>
void backward_head(const T* dout, const T* y, const T* z, T* dy, T* dz, int64_t experts, int64_t head_dim,
                   int64_t top_k) {
  for (int64_t e = 0; e < experts; ++e, y += head_dim, dy += head_dim) {
    if (!chosen(z, experts, e, top_k)) {
      dz[e] = 0;
      for (int64_t i = 0; i < head_dim; ++i) dy[i] = 0;
      continue;
    }
    const T share = sigmoid(z[e]);
    LaneSum<T> dshare;
    dshare.add(head_dim, [&](int64_t i) { return dout[i] * y[i]; });
    dz[e] = dshare.total() * share * (T(1) - share);
#pragma GCC ivdep
    for (int64_t i = 0; i < head_dim; ++i) dy[i] = share * dout[i];
  }
}

}  // namespace

void switch_heads_forward(Stream& s, int64_t top_k, Tensor y, Tensor z, Tensor out) {
  const int64_t heads = y.dim(1), experts = y.dim(2), head_dim = y.dim(3);
  dispatch_float(y.dtype, [&]<class T>() {
    parallel_for(s, y.dim(0) * heads, heads, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        forward_head(y.as<T>() + row * experts * head_dim, z.as<T>() + row * experts, out.as<T>() + row * head_dim,
                     experts, head_dim, top_k);
      }
    });
  });
}

void switch_heads_backward(Stream& s, int64_t top_k, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz) {
  const int64_t heads = y.dim(1), experts = y.dim(2), head_dim = y.dim(3);
  dispatch_float(y.dtype, [&]<class T>() {
    parallel_for(s, y.dim(0) * heads, heads, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t pool = row * experts;
        backward_head(dout.as<T>() + row * head_dim, y.as<T>() + pool * head_dim, z.as<T>() + pool,
                      dy.as<T>() + pool * head_dim, dz.as<T>() + pool, experts, head_dim, top_k);
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
