#include "kernels/reduce.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void sum_squares(Stream& s, Tensor x, Tensor out); void sum(Stream& s, Tensor x, Tensor out);
                void max_abs(Stream& s, Tensor x, Tensor out);
                void raise_to_column_maxima(Stream& s, Tensor x, Tensor out);)

namespace sluice {

void sum_squares(Stream& s, Tensor x, Tensor out) {
  expect("out", out, DType::kF64, {1});
  SLUICE_DISPATCH(sum_squares, s, x, out);
}

void sum(Stream& s, Tensor x, Tensor out) {
  expect("x", x, DType::kF64, {x.count()});
  expect("out", out, DType::kF64, {1});
  SLUICE_DISPATCH(sum, s, x, out);
}

void max_abs(Stream& s, Tensor x, Tensor out) {
  expect("out", out, DType::kF64, {1});
  SLUICE_DISPATCH(max_abs, s, x, out);
}

void raise_to_column_maxima(Stream& s, Tensor x, Tensor out) {
  expect("x", x, x.dtype, {x.dim(0), out.count()});
  expect("out", out, DType::kF64, {out.count()});
  SLUICE_DISPATCH(raise_to_column_maxima, s, x, out);
}

}  // namespace sluice
