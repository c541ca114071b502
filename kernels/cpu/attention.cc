#include "kernels/attention.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

template <class T>
T dot(const T* a, const T* b, int64_t n) {
  LaneSum<T> sum;
  sum.add(n, [&](int64_t i) { return a[i] * b[i]; });
  return sum.total();
}

}  // namespace

void attention_forward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse) {
  const int64_t heads = in.q.dim(1), kv_heads = in.k.dim(1), width = in.q.dim(2), group = heads / kv_heads;
  const int32_t* query_offsets = in.query_offsets.as<int32_t>();
  const int32_t* key_offsets = in.key_offsets.as<int32_t>();
  dispatch_float(in.q.dtype, [&]<class T>() {
    parallel_for(s, in.query_offsets.dim(0) - 1, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t d = begin; d < end; ++d) {
        for (int64_t t = query_offsets[d]; t < query_offsets[d + 1]; ++t) {
          for (int64_t h = 0; h < heads; ++h) {
            const T* q = in.q.as<T>() + (t * heads + h) * width;
            T* o = out.as<T>() + (t * heads + h) * width;
            T largest = -T(1e30), sum = 0;
            for (int64_t i = 0; i < width; ++i) o[i] = 0;
            for (int64_t c = 0; c <= in.query_positions.as<int32_t>()[t]; ++c) {
              const int64_t row = ((key_offsets[d] + c) * kv_heads + h / group) * width;
              const T logit = dot(q, in.k.as<T>() + row, width) * static_cast<T>(in.scale);
              if (logit > largest) {
                const T shrink = exponential(largest - logit);
                for (int64_t i = 0; i < width; ++i) o[i] *= shrink;
                sum *= shrink;
                largest = logit;
              }
              const T p = exponential(logit - largest);
              sum += p;
              const T* v = in.v.as<T>() + row;
              for (int64_t i = 0; i < width; ++i) o[i] = multiply_add(p, v[i], o[i]);
            }
            for (int64_t i = 0; i < width; ++i) o[i] /= sum;
            lse.as<T>()[t * heads + h] = largest + std::log(sum);
          }
        }
      }
    });
  });
}

void attention_backward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor dout, Tensor delta,
                        Tensor dq, Tensor dk, Tensor dv) {
  const int64_t heads = in.q.dim(1), kv_heads = in.k.dim(1), width = in.q.dim(2), group = heads / kv_heads;
  const int32_t* query_offsets = in.query_offsets.as<int32_t>();
  const int32_t* key_offsets = in.key_offsets.as<int32_t>();
  std::memset(dq.data, 0, static_cast<size_t>(dq.bytes()));
  std::memset(dk.data, 0, static_cast<size_t>(dk.bytes()));
  std::memset(dv.data, 0, static_cast<size_t>(dv.bytes()));
  dispatch_float(in.q.dtype, [&]<class T>() {
    parallel_for(s, in.query_offsets.dim(0) - 1, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t d = begin; d < end; ++d) {
        for (int64_t t = query_offsets[d]; t < query_offsets[d + 1]; ++t) {
          for (int64_t h = 0; h < heads; ++h) {
            const int64_t row = t * heads + h;
            const T* q = in.q.as<T>() + row * width;
            const T* g = dout.as<T>() + row * width;
            delta.as<T>()[row] = dot(g, out.as<T>() + row * width, width);
            for (int64_t c = 0; c <= in.query_positions.as<int32_t>()[t]; ++c) {
              const int64_t key = ((key_offsets[d] + c) * kv_heads + h / group) * width;
              const T logit = dot(q, in.k.as<T>() + key, width) * static_cast<T>(in.scale);
              const T p = exponential(logit - lse.as<T>()[row]);
              const T ds = p * (dot(g, in.v.as<T>() + key, width) - delta.as<T>()[row]) * static_cast<T>(in.scale);
              for (int64_t i = 0; i < width; ++i) {
                dq.as<T>()[row * width + i] += ds * in.k.as<T>()[key + i];
                dk.as<T>()[key + i] += ds * q[i];
                dv.as<T>()[key + i] += p * g[i];
              }
            }
          }
        }
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
