#include "kernels/gemm.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/blas.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void gemm(Stream& s, Transpose a_transpose, Transpose b_transpose, Tensor a, Tensor b, Tensor c, bool accumulate) {
  const bool ta = a_transpose == Transpose::kYes, tb = b_transpose == Transpose::kYes;
  const int64_t m = c.dim(0), n = c.dim(1), k = ta ? a.dim(0) : a.dim(1);
  use_one_blas_thread();
  dispatch_float(c.dtype, [&]<class T>() {
    // Rows of c are split: a worker's part is a product of its own.
    parallel_for(s, m, 16, [&](int64_t begin, int64_t end, int) {
      const T* rows = a.as<T>() + (ta ? begin : begin * k);
      if (n > 0) {
        blas_gemm(ta, tb, end - begin, n, k, rows, ta ? m : k, b.as<T>(), tb ? k : n, T(accumulate ? 1 : 0),
                  c.as<T>() + begin * n, n);
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
