#include "kernels/swiglu.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void swiglu_forward(Stream& s, Tensor gu, Tensor y);
                void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor dgu);)

namespace sluice {

void swiglu_forward(Stream& s, Tensor gu, Tensor y) {
  expect("y", y, gu.dtype, {y.dim(0), y.dim(1)});
  expect("gu", gu, gu.dtype, {y.dim(0), 2 * y.dim(1)});
  SLUICE_DISPATCH(s, swiglu_forward(s, gu, y));
}

void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor dgu) {
  expect("dy", dy, gu.dtype, {dy.dim(0), dy.dim(1)});
  expect("gu", gu, gu.dtype, {dy.dim(0), 2 * dy.dim(1)});
  expect("dgu", dgu, gu.dtype, gu.shape);
  SLUICE_DISPATCH(s, swiglu_backward(s, dy, gu, dgu));
}

}  // namespace sluice
