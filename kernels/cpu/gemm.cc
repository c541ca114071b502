#include "kernels/gemm.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/multiply.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void gemm(Stream& s, Transpose a_transpose, Transpose b_transpose, Tensor a, Tensor b, Tensor c, bool accumulate) {
  const bool ta = a_transpose == Transpose::kYes, tb = b_transpose == Transpose::kYes;
  const int64_t m = c.dim(0), n = c.dim(1), k = ta ? a.dim(0) : a.dim(1);
  dispatch_float(c.dtype, [&]<class T>() {
    // Rows of c are split: a worker's part is a product of its own.
    parallel_for(s, m, 16, [&](int64_t begin, int64_t end, int worker) {
      const T* rows = a.as<T>() + (ta ? begin : begin * k);
      multiply<T>(s.pool->workspace(worker), {ta, tb, end - begin, n, k, rows, ta ? m : k, b.as<T>(), tb ? k : n,
                                              accumulate, c.as<T>() + begin * n, n});
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
