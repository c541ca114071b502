#pragma once

#include "kernels/cpu/product.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// Our own f32 product for this instruction set, on the calling thread, of a sum over at least one k. The sum over k of
/// an element is made in one order, whatever m and n are. `workspace` holds ThreadPool::kWorkspaceBytes; the operands
/// that `next` reads first are fetched into the cache meanwhile, null: nothing is known of it.
void packed_gemm(void* workspace, const Product<float>& product, const Product<float>* next);

#if defined(__AVX512F__)
constexpr bool kHasPackedGemm = true;
#else
constexpr bool kHasPackedGemm = false;
#endif

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
