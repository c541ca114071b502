#pragma once

#include <cstring>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/gemm_packed.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// Row-major c [m, n] = op(a) op(b) + (accumulate ? c : 0) on the calling thread: by our own kernel where this
/// instruction set has one, else by OpenBLAS. `workspace` is the worker's.
template <class T>
void multiply(void* workspace, bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, const T* a,
              int64_t lda, const T* b, int64_t ldb, bool accumulate, T* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (int64_t i = 0; i < m && !accumulate; ++i) std::memset(c + i * ldc, 0, static_cast<size_t>(n) * sizeof(T));
    return;
  }
  if constexpr (sizeof(T) == 4 && kHasPackedGemm) {
    packed_gemm(workspace, a_transposed, b_transposed, m, n, k, a, lda, b, ldb, accumulate, c, ldc);
  } else {
    use_one_blas_thread();
    blas_gemm(a_transposed, b_transposed, m, n, k, a, lda, b, ldb, T(accumulate ? 1 : 0), c, ldc);
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
