#pragma once

#include <cblas.h>
#include <cstdint>

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// OpenBLAS on one thread: our pool splits the work. Called before each product, and sets the count once a thread: the
/// OpenMP flavour keeps it there, and a thread that was not told would split its product and round otherwise.
inline void use_one_blas_thread() {
  static thread_local const bool kDone = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  (void)kDone;
}

/// Row-major c [m, n] = op(a) op(b) + beta c with leading dimensions, through OpenBLAS.
inline void blas_gemm(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, const float* a,
                      int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, a_transposed ? CblasTrans : CblasNoTrans, b_transposed ? CblasTrans : CblasNoTrans,
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1.0f, a,
              static_cast<blasint>(lda), b, static_cast<blasint>(ldb), beta, c, static_cast<blasint>(ldc));
}
inline void blas_gemm(bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, const double* a,
                      int64_t lda, const double* b, int64_t ldb, double beta, double* c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, a_transposed ? CblasTrans : CblasNoTrans, b_transposed ? CblasTrans : CblasNoTrans,
              static_cast<blasint>(m), static_cast<blasint>(n), static_cast<blasint>(k), 1.0, a,
              static_cast<blasint>(lda), b, static_cast<blasint>(ldb), beta, c, static_cast<blasint>(ldc));
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
