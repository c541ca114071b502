#include "kernels/bias.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void bias_forward(Stream& s, Tensor bias, Tensor y, bool accumulate);
                void bias_backward(Stream& s, Tensor dy, Tensor dbias);)

namespace sluice {

void bias_forward(Stream& s, Tensor bias, Tensor y, bool accumulate) {
  expect("bias", bias, y.dtype, {y.dim(1)});
  expect("y", y, y.dtype, {y.dim(0), y.dim(1)});
  SLUICE_DISPATCH(bias_forward, s, bias, y, accumulate);
}

void bias_backward(Stream& s, Tensor dy, Tensor dbias) {
  expect("dy", dy, dy.dtype, {dy.dim(0), dy.dim(1)});
  expect("dbias", dbias, exact_dtype(dy.dtype), {dy.dim(1)});
  SLUICE_DISPATCH(bias_backward, s, dy, dbias);
}

}  // namespace sluice
