#include "kernels/rms_norm.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void rms_norm_forward(Stream& s, Tensor x, Tensor w, double eps, Tensor y, Tensor rstd);
                void rms_norm_backward(Stream& s, Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor dx, Tensor dw,
                                       bool accumulate_dx);)

namespace sluice {
namespace {

void check(Tensor x, Tensor w, Tensor rstd) {
  INVARIANT(is_float(x.dtype), "x: expected f32, f64 or bf16, got ", dtype_name(x.dtype));
  INVARIANT(x.shape.rank() == 2, "x: expected [rows, width], got ", to_string(x.shape));
  // The backward keeps two rows of sums in a worker's workspace.
  INVARIANT(x.dim(1) <= kMaxNormWidth, "x: width ", x.dim(1), " is above ", kMaxNormWidth);
  expect("w", w, x.dtype, {x.dim(1)});
  expect("rstd", rstd, exact_dtype(x.dtype), {x.dim(0)});
}

}  // namespace

void rms_norm_forward(Stream& s, Tensor x, Tensor w, double eps, Tensor y, Tensor rstd) {
  check(x, w, rstd);
  expect("y", y, x.dtype, x.shape);
  SLUICE_DISPATCH(rms_norm_forward, s, x, w, eps, y, rstd);
}

void rms_norm_backward(Stream& s, Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor dx, Tensor dw,
                       bool accumulate_dx) {
  check(x, w, rstd);
  expect("dy", dy, x.dtype, x.shape);
  expect("dx", dx, x.dtype, x.shape);
  expect("dw", dw, exact_dtype(x.dtype), w.shape);
  INVARIANT(!accumulate_dx || dx.data != dy.data || dx.count() == 0, "dx: aliases dy and would be added to");
  SLUICE_DISPATCH(rms_norm_backward, s, dy, x, w, rstd, dx, dw, accumulate_dx);
}

}  // namespace sluice
