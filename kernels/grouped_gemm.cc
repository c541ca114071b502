#include "kernels/grouped_gemm.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void grouped_linear_forward(Stream& s, Tensor x, Tensor w, Tensor offsets, Tensor y);
                void grouped_linear_backward_input(Stream& s, Tensor dy, Tensor w, Tensor offsets, Tensor dx);
                void grouped_linear_backward_weight(Stream& s, Tensor dy, Tensor x, Tensor offsets, Tensor dw,
                                                    bool accumulate);)

namespace sluice {
namespace {

void check(Tensor in, Tensor w, Tensor offsets, Tensor out, DType w_dtype) {
  const int64_t experts = w.dim(0);
  expect("w", w, w_dtype, {experts, out.dim(1), in.dim(1)});
  expect("out", out, in.dtype, {in.dim(0), out.dim(1)});
  expect("offsets", offsets, DType::kI64, {experts + 1});
  const int64_t* first = offsets.as<int64_t>();
  INVARIANT(first[0] == 0 && first[experts] == in.dim(0), "offsets: expected 0 .. ", in.dim(0), ", got ", first[0],
            " .. ", first[experts]);
  for (int64_t e = 0; e < experts; ++e)
    INVARIANT(first[e] <= first[e + 1], "offsets: expert ", e, " ends before it begins");
}

/// All three forms multiply as much: every row by its expert's weights.
OpCost cost_of(Tensor in, Tensor w, Tensor out) {
  const double flops = 2.0 * static_cast<double>(in.count()) * static_cast<double>(out.dim(1));
  return {"grouped_gemm", flops, bytes_of_tensors(in, w, out)};
}

}  // namespace

void grouped_linear_forward(Stream& s, Tensor x, Tensor w, Tensor offsets, Tensor y) {
  check(x, w, offsets, y, x.dtype);
  SLUICE_DISPATCH_WITH_COST(cost_of(x, w, y), grouped_linear_forward, s, x, w, offsets, y);
}

void grouped_linear_backward_input(Stream& s, Tensor dy, Tensor w, Tensor offsets, Tensor dx) {
  check(dx, w, offsets, dy, dx.dtype);
  SLUICE_DISPATCH_WITH_COST(cost_of(dx, w, dy), grouped_linear_backward_input, s, dy, w, offsets, dx);
}

void grouped_linear_backward_weight(Stream& s, Tensor dy, Tensor x, Tensor offsets, Tensor dw, bool accumulate) {
  check(x, dw, offsets, dy, exact_dtype(x.dtype));
  SLUICE_DISPATCH_WITH_COST(cost_of(x, dw, dy), grouped_linear_backward_weight, s, dy, x, offsets, dw, accumulate);
}

}  // namespace sluice
