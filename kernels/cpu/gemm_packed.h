#pragma once

#include <cstdint>

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// Our own f32 product for this instruction set: row-major c [m, n] = op(a) op(b) + (accumulate ? c : 0) with leading
/// dimensions, on the calling thread. The sum over k of an element is made in one order, whatever m and n are.
/// `workspace` holds ThreadPool::kWorkspaceBytes.
void packed_gemm(void* workspace, bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, const float* a,
                 int64_t lda, const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc);

#if defined(__AVX512F__)
constexpr bool kHasPackedGemm = true;
#else
constexpr bool kHasPackedGemm = false;
#endif

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
