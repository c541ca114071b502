#include "kernels/elementwise.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void add(Stream& s, Tensor a, Tensor b, Tensor out);
                void difference(Stream& s, Tensor a, Tensor b, Tensor out); void fill_zero(Stream& s, Tensor x);
                void scale(Stream& s, Tensor x, double factor); void cast(Stream& s, Tensor x, Tensor out);
                void clip(Stream& s, Tensor x, double limit, Tensor out);
                void clip_backward(Stream& s, Tensor dout, Tensor x, double limit, Tensor dx);)

namespace sluice {

void add(Stream& s, Tensor a, Tensor b, Tensor out) {
  expect("b", b, a.dtype, a.shape);
  expect("out", out, a.dtype, a.shape);
  SLUICE_DISPATCH(add, s, a, b, out);
}

void difference(Stream& s, Tensor a, Tensor b, Tensor out) {
  expect("b", b, a.dtype, a.shape);
  expect("out", out, a.dtype, a.shape);
  SLUICE_DISPATCH(difference, s, a, b, out);
}

void fill_zero(Stream& s, Tensor x) { SLUICE_DISPATCH(fill_zero, s, x); }

void scale(Stream& s, Tensor x, double factor) { SLUICE_DISPATCH(scale, s, x, factor); }

void clip(Stream& s, Tensor x, double limit, Tensor out) {
  expect("out", out, x.dtype, x.shape);
  INVARIANT(limit > 0, "limit=", limit, " must be positive");
  SLUICE_DISPATCH(clip, s, x, limit, out);
}

void clip_backward(Stream& s, Tensor dout, Tensor x, double limit, Tensor dx) {
  expect("dout", dout, x.dtype, x.shape);
  expect("dx", dx, x.dtype, x.shape);
  INVARIANT(limit > 0, "limit=", limit, " must be positive");
  SLUICE_DISPATCH(clip_backward, s, dout, x, limit, dx);
}

void cast(Stream& s, Tensor x, Tensor out) {
  expect("out", out, out.dtype, x.shape);
  INVARIANT(is_float(x.dtype) && is_float(out.dtype), "expected f32, f64 or bf16, got x ", dtype_name(x.dtype),
            ", out ", dtype_name(out.dtype));
  SLUICE_DISPATCH(cast, s, x, out);
}

}  // namespace sluice
