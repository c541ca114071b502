#include "parallel/combine.h"

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

// Few enough elements that a block of every term stays in the first-level cache.
constexpr int64_t kBlock = 1024;

template <class T>
void combine_as(ReduceOp op, int64_t n, std::span<const void* const> terms, T* out) {
  T sum[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t count = std::min(kBlock, n - begin);
    std::memcpy(sum, static_cast<const T*>(terms[0]) + begin, static_cast<size_t>(count) * sizeof(T));
    for (const void* term : terms.subspan(1)) {
      const T* x = static_cast<const T*>(term) + begin;
      if (op == ReduceOp::kSum) {
        for (int64_t i = 0; i < count; ++i) sum[i] += x[i];
      } else {
        // NaN is the largest, so that every rank sees it.
        for (int64_t i = 0; i < count; ++i) sum[i] = x[i] > sum[i] || x[i] != x[i] ? x[i] : sum[i];
      }
    }
    std::memcpy(out + begin, sum, static_cast<size_t>(count) * sizeof(T));
  }
}

}  // namespace

void combine(DType dtype, ReduceOp op, int64_t n, std::span<const void* const> terms, void* out) {
  switch (dtype) {
    case DType::kF32:
      return combine_as(op, n, terms, static_cast<float*>(out));
    case DType::kF64:
      return combine_as(op, n, terms, static_cast<double*>(out));
    case DType::kI32:
      return combine_as(op, n, terms, static_cast<int32_t*>(out));
    case DType::kI64:
      return combine_as(op, n, terms, static_cast<int64_t*>(out));
    default:
      INVARIANT(false, "cannot reduce ", dtype_name(dtype));
  }
}

}  // namespace sluice
