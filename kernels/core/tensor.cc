#include "kernels/core/tensor.h"

namespace sluice {

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Tensor Tensor::reshaped(Shape to) const {
  INVARIANT(to.count() == count(), "cannot view ", to_string(shape), " as ", to_string(to));
  return {data, dtype, device, to};
}

Tensor Tensor::rows(int64_t begin, int64_t rows) const {
  INVARIANT(shape.rank() > 0 && begin >= 0 && rows >= 0 && begin + rows <= shape[0], "rows [", begin, ", ",
            begin + rows, ") of ", to_string(shape));
  const int64_t row_elements = shape[0] ? count() / shape[0] : 0;
  Shape part;
  switch (shape.rank()) {
    case 1:
      part = {rows};
      break;
    case 2:
      part = {rows, shape[1]};
      break;
    case 3:
      part = {rows, shape[1], shape[2]};
      break;
    default:
      part = {rows, shape[1], shape[2], shape[3]};
  }
  return {data ? static_cast<char*>(data) + begin * row_elements * dtype_bytes(dtype) : nullptr, dtype, device, part};
}

void expect(const char* name, const Tensor& t, DType dtype, const Shape& shape) {
  INVARIANT(t.dtype == dtype && t.shape == shape, name, ": expected ", dtype_name(dtype), " ", to_string(shape),
            ", got ", dtype_name(t.dtype), " ", to_string(t.shape));
}

}  // namespace sluice
