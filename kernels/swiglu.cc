#include "kernels/swiglu.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void swiglu_forward(Stream& s, Tensor gu, Tensor weights, Tensor y);
                void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor weights, Tensor y, Tensor dgu,
                                     Tensor dweights);)

namespace sluice {

void swiglu_forward(Stream& s, Tensor gu, Tensor weights, Tensor y) {
  expect("y", y, gu.dtype, {y.dim(0), y.dim(1)});
  expect("gu", gu, gu.dtype, {y.dim(0), 2 * y.dim(1)});
  if (weights) expect("weights", weights, exact_dtype(gu.dtype), {y.dim(0)});
  SLUICE_DISPATCH(swiglu_forward, s, gu, weights, y);
}

void swiglu_backward(Stream& s, Tensor dy, Tensor gu, Tensor weights, Tensor y, Tensor dgu, Tensor dweights) {
  expect("dy", dy, gu.dtype, {dy.dim(0), dy.dim(1)});
  expect("gu", gu, gu.dtype, {dy.dim(0), 2 * dy.dim(1)});
  expect("y", y, gu.dtype, dy.shape);
  expect("dgu", dgu, gu.dtype, gu.shape);
  if (weights) expect("weights", weights, exact_dtype(gu.dtype), {dy.dim(0)});
  if (weights) expect("dweights", dweights, exact_dtype(gu.dtype), weights.shape);
  SLUICE_DISPATCH(swiglu_backward, s, dy, gu, weights, y, dgu, dweights);
}

}  // namespace sluice
