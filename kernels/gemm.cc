#include "kernels/gemm.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void gemm(Stream& s, Transpose a_transpose, Transpose b_transpose, Tensor a, Tensor b, Tensor c,
                          bool accumulate);)

namespace sluice {
namespace {

void check_operand(const char* name, Tensor t, Transpose transpose, DType dtype, int64_t rows, int64_t columns) {
  const Shape plain{rows, columns}, transposed{columns, rows};
  expect(name, t, dtype, transpose == Transpose::kYes ? transposed : plain);
}

}  // namespace

void gemm(Stream& s, Transpose a_transpose, Transpose b_transpose, Tensor a, Tensor b, Tensor c, bool accumulate) {
  INVARIANT(a.shape.rank() == 2 && c.shape.rank() == 2, "gemm: expected matrices, got a ", to_string(a.shape), ", c ",
            to_string(c.shape));
  const int64_t k = a_transpose == Transpose::kYes ? a.dim(0) : a.dim(1);
  INVARIANT(c.dtype == b.dtype || c.dtype == exact_dtype(b.dtype), "gemm: ", dtype_name(b.dtype), " into ",
            dtype_name(c.dtype));
  check_operand("a", a, a_transpose, b.dtype, c.dim(0), k);
  check_operand("b", b, b_transpose, b.dtype, k, c.dim(1));
  const double flops = 2.0 * static_cast<double>(c.count()) * static_cast<double>(k);
  SLUICE_DISPATCH_WITH_COST((OpCost{"gemm", flops, bytes_of_tensors(a, b, c)}), gemm, s, a_transpose, b_transpose, a, b,
                            c, accumulate);
}

}  // namespace sluice
