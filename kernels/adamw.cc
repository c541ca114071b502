#include "kernels/adamw.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void adamw(Stream& s, const AdamW& op, Tensor weight, Tensor grad, Tensor m, Tensor v,
                           Tensor clip_factor, Tensor skip, Tensor sums);
                void clip_by_global_norm(Stream& s, Tensor squared_norm, double max_norm, Tensor factor, Tensor norm,
                                         Tensor skip);
                void skip_above(Stream& s, Tensor value, double scale, double limit, Tensor skip);)

namespace sluice {

namespace {

void check(const AdamW& op, Tensor grad, Tensor m, Tensor v, Tensor clip_factor) {
  const Shape n{grad.count()};
  expect("grad", grad, grad.dtype, n);
  expect("m", m, grad.dtype, n);
  expect("v", v, grad.dtype, n);
  expect("clip_factor", clip_factor, DType::kF64, {1});
  INVARIANT(op.step >= 1, "adamw: step ", op.step, " must be at least 1");
}

}  // namespace

void adamw(Stream& s, const AdamW& op, Tensor weight, Tensor grad, Tensor m, Tensor v, Tensor clip_factor, Tensor skip,
           Tensor sums) {
  check(op, grad, m, v, clip_factor);
  expect("weight", weight, grad.dtype, grad.shape);
  expect("skip", skip, DType::kI32, {1});
  if (sums) expect("sums", sums, DType::kF64, {3});
  SLUICE_DISPATCH(adamw, s, op, weight, grad, m, v, clip_factor, skip, sums);
}

void adamw_sums(Stream& s, const AdamW& op, Tensor grad, Tensor m, Tensor v, Tensor clip_factor, Tensor sums) {
  check(op, grad, m, v, clip_factor);
  expect("sums", sums, DType::kF64, {3});
  SLUICE_DISPATCH(adamw, s, op, Tensor{}, grad, m, v, clip_factor, Tensor{}, sums);
}

void clip_by_global_norm(Stream& s, Tensor squared_norm, double max_norm, Tensor factor, Tensor norm, Tensor skip) {
  expect("squared_norm", squared_norm, DType::kF64, {1});
  expect("factor", factor, DType::kF64, {1});
  expect("norm", norm, DType::kF64, {1});
  expect("skip", skip, DType::kI32, {1});
  SLUICE_DISPATCH(clip_by_global_norm, s, squared_norm, max_norm, factor, norm, skip);
}

void skip_above(Stream& s, Tensor value, double scale, double limit, Tensor skip) {
  expect("value", value, DType::kF64, {1});
  expect("skip", skip, DType::kI32, {1});
  SLUICE_DISPATCH(skip_above, s, value, scale, limit, skip);
}

}  // namespace sluice
