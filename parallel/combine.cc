#include "parallel/combine.h"

namespace sluice {
namespace {

template <class T>
void combine_as(ReduceOp op, int64_t n, const void* x, void* into) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(into);
  if (op == ReduceOp::kSum) {
    for (int64_t i = 0; i < n; ++i) to[i] += from[i];
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i] > to[i] ? from[i] : to[i];
  }
}

}  // namespace

void combine(DType dtype, ReduceOp op, int64_t n, const void* x, void* into) {
  switch (dtype) {
    case DType::kF32:
      return combine_as<float>(op, n, x, into);
    case DType::kF64:
      return combine_as<double>(op, n, x, into);
    case DType::kI32:
      return combine_as<int32_t>(op, n, x, into);
    case DType::kI64:
      return combine_as<int64_t>(op, n, x, into);
    default:
      INVARIANT(false, "cannot reduce ", dtype_name(dtype));
  }
}

}  // namespace sluice
