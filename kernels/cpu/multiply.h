#pragma once

#include <cstring>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/gemm_packed.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// Makes a product on the calling thread: by our own kernel where this instruction set has one, else by OpenBLAS.
/// `workspace` is the worker's; `next` the product that it makes afterwards, null: unknown.
template <class T>
void multiply(void* workspace, const Product<T>& p, const Product<T>* next = nullptr) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    for (int64_t i = 0; i < p.m && !p.accumulate; ++i) {
      std::memset(p.c + i * p.ldc, 0, static_cast<size_t>(p.n) * sizeof(T));
    }
    return;
  }
  if constexpr (sizeof(T) == 4 && kHasPackedGemm) {
    packed_gemm(workspace, p, next);
  } else {
    use_one_blas_thread();
    blas_gemm(p.a_transposed, p.b_transposed, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, T(p.accumulate ? 1 : 0), p.c,
              p.ldc);
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
