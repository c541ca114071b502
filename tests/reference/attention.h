#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace sluice::reference {

struct AttentionShape {
  size_t query_heads, kv_heads, head_dim;
  std::vector<int32_t> query_offsets, key_offsets, query_positions;  ///< as in kernels/attention.h
  double scale;
};

template <class T>
struct AttentionOutput {
  std::vector<T> out, lse;
};

/// softmax(scale q k^T) v of one query and head over the first `keys` keys that `k` and `v` point to.
template <class T>
T attend(const T* q, const T* k, const T* v, size_t keys, size_t key_stride, size_t head_dim, double scale, T* out) {
  std::vector<T> weights(keys);
  T sum = 0;
  for (size_t c = 0; c < keys; ++c) {
    T logit = 0;
    for (size_t i = 0; i < head_dim; ++i) logit += q[i] * k[c * key_stride + i];
    weights[c] = std::exp(logit * scale);
    sum += weights[c];
  }
  for (size_t i = 0; i < head_dim; ++i) {
    T value = 0;
    for (size_t c = 0; c < keys; ++c) value += weights[c] * v[c * key_stride + i];
    out[i] = value / sum;
  }
  return std::log(sum);
}

/// Causal grouped-query attention of packed documents, a row of logits at a time.
template <class T>
AttentionOutput<T> attention(const AttentionShape& shape, const std::vector<T>& q, const std::vector<T>& k,
                             const std::vector<T>& v) {
  AttentionOutput<T> result{std::vector<T>(q.size()), std::vector<T>(q.size() / shape.head_dim)};
  const size_t group = shape.query_heads / shape.kv_heads, key_stride = shape.kv_heads * shape.head_dim;
  for (size_t d = 0; d + 1 < shape.query_offsets.size(); ++d) {
    const size_t first_key = static_cast<size_t>(shape.key_offsets[d]) * key_stride;
    for (size_t t = static_cast<size_t>(shape.query_offsets[d]); t < static_cast<size_t>(shape.query_offsets[d + 1]);
         ++t) {
      for (size_t h = 0; h < shape.query_heads; ++h) {
        const size_t row = t * shape.query_heads + h, head = first_key + h / group * shape.head_dim;
        result.lse[row] = attend(&q[row * shape.head_dim], k.data() + head, v.data() + head,
                                 static_cast<size_t>(shape.query_positions[t]) + 1, key_stride, shape.head_dim,
                                 shape.scale, &result.out[row * shape.head_dim]);
      }
    }
  }
  return result;
}

}  // namespace sluice::reference
