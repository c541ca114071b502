#pragma once

#include <cstdint>
// GCC 12 warns of its own intrinsics, which start from an undefined register on purpose (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

// The inner product of the f32 GEMM for AVX-512. GCC 12 spills accumulators that it allocates itself, so the loop over
// k is one asm block with fixed registers: zmm0..27 hold up to 14 rows of 32 sums, zmm28..29 a row of b, zmm30..31
// values of a.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

constexpr int64_t kTileRows = 14;
constexpr int64_t kTileColumns = 32;

/// Steps over k during which one line is fetched. More at once would take all line fill buffers, and the product would
/// wait for its operands.
constexpr int64_t kStepsALine = 3;

/// Lines fetched into the cache one after the other, the first at `at`, each `step` bytes behind the one before.
struct Ahead {
  const void* at;
  int64_t step;
  int64_t lines;
};

/// Rows of a: element (i, l) is first[i * row_stride + l * k_stride].
struct TileRows {
  const float* first;
  int64_t row_stride, k_stride;
};

/// c [rows, 32] = a b + (accumulate ? c : 0), columns beyond the mask untouched.
///   a      [rows, k]
///   ahead  runs of together k / kStepsALine lines, and one of none at their end
///   b      [k][32] packed
///   c      with ldc floats a row
using TileKernel = void (*)(const TileRows& a, int64_t k, const Ahead* ahead, const float* b, float* c, int64_t ldc,
                            uint32_t column_mask, bool accumulate);

// Row i of the tile: its value of a at an address from one of five pointers, rows 0, 3, 6, 9 and 12; registers x = 2 i
// and y = 2 i + 1; t alternates so that a broadcast need not wait for a product.
#define SLUICE_ROW_ZERO(x, y) \
  "vpxord %%zmm" #x ",%%zmm" #x ",%%zmm" #x "\n vpxord %%zmm" #y ",%%zmm" #y ",%%zmm" #y "\n"
#define SLUICE_ROW_STEP(at, x, y, t)           \
  "vbroadcastss " at ", %%zmm" #t              \
  "\n"                                         \
  "vfmadd231ps %%zmm28, %%zmm" #t ", %%zmm" #x \
  "\n"                                         \
  "vfmadd231ps %%zmm29, %%zmm" #t ", %%zmm" #y "\n"
#define SLUICE_ROW_ADD(x, y)                 \
  "vmovups (%[p]), %%zmm30%{%%k1%}%{z%}\n"   \
  "vmovups 64(%[p]), %%zmm31%{%%k2%}%{z%}\n" \
  "vaddps %%zmm30, %%zmm" #x ", %%zmm" #x    \
  "\n"                                       \
  "vaddps %%zmm31, %%zmm" #y ", %%zmm" #y    \
  "\n"                                       \
  "add %[step], %[p]\n"
#define SLUICE_ROW_STORE(x, y) \
  "vmovups %%zmm" #x           \
  ", (%[p])%{%%k1%}\n"         \
  "vmovups %%zmm" #y           \
  ", 64(%[p])%{%%k2%}\n"       \
  "add %[step], %[p]\n"

// F(ZERO), F(STEP), ... for the rows of a tile of each height.
#define SLUICE_ROWS_1(F) F("(%[a0])", 0, 1, 30)
#define SLUICE_ROWS_2(F) SLUICE_ROWS_1(F) F("(%[a0],%[rs])", 2, 3, 31)
#define SLUICE_ROWS_3(F) SLUICE_ROWS_2(F) F("(%[a0],%[rs],2)", 4, 5, 30)
#define SLUICE_ROWS_4(F) SLUICE_ROWS_3(F) F("(%[a3])", 6, 7, 31)
#define SLUICE_ROWS_5(F) SLUICE_ROWS_4(F) F("(%[a3],%[rs])", 8, 9, 30)
#define SLUICE_ROWS_6(F) SLUICE_ROWS_5(F) F("(%[a3],%[rs],2)", 10, 11, 31)
#define SLUICE_ROWS_7(F) SLUICE_ROWS_6(F) F("(%[a6])", 12, 13, 30)
#define SLUICE_ROWS_8(F) SLUICE_ROWS_7(F) F("(%[a6],%[rs])", 14, 15, 31)
#define SLUICE_ROWS_9(F) SLUICE_ROWS_8(F) F("(%[a6],%[rs],2)", 16, 17, 30)
#define SLUICE_ROWS_10(F) SLUICE_ROWS_9(F) F("(%[a9])", 18, 19, 31)
#define SLUICE_ROWS_11(F) SLUICE_ROWS_10(F) F("(%[a9],%[rs])", 20, 21, 30)
#define SLUICE_ROWS_12(F) SLUICE_ROWS_11(F) F("(%[a9],%[rs],2)", 22, 23, 31)
#define SLUICE_ROWS_13(F) SLUICE_ROWS_12(F) F("(%[a12])", 24, 25, 30)
#define SLUICE_ROWS_14(F) SLUICE_ROWS_13(F) F("(%[a12],%[rs])", 26, 27, 31)

#define SLUICE_ZERO(at, x, y, t) SLUICE_ROW_ZERO(x, y)
#define SLUICE_STEP(at, x, y, t) SLUICE_ROW_STEP(at, x, y, t)
#define SLUICE_ADD(at, x, y, t) SLUICE_ROW_ADD(x, y)
#define SLUICE_STORE(at, x, y, t) SLUICE_ROW_STORE(x, y)

#define SLUICE_K_STEP(rows) \
  "vmovups (%[b]), %%zmm28\n vmovups 64(%[b]), %%zmm29\n" SLUICE_ROWS_##rows(SLUICE_STEP)                         \
      "add %[ks], %[a0]\n add %[ks], %[a3]\n add %[ks], %[a6]\n add %[ks], %[a9]\n add %[ks], %[a12]\n add $128, %[b]\n"

// The loop spells its steps out.
static_assert(kStepsALine == 3);
#define SLUICE_TILE_KERNEL(rows)                                                                                      \
  inline void tile_kernel_##rows(const TileRows& a, int64_t k, const Ahead* ahead, const float* b, float* c,          \
                                 int64_t ldc, uint32_t column_mask, bool accumulate) {                                \
    const int64_t rs = a.row_stride * 4, ks = a.k_stride * 4, ldc_bytes = ldc * 4, rest = k % kStepsALine;            \
    const char *a0 = reinterpret_cast<const char*>(a.first), *a3 = a0 + 3 * rs, *a6 = a0 + 6 * rs, *a9 = a0 + 9 * rs, \
               *a12 = a0 + 12 * rs;                                                                                   \
    const uint32_t masks[2] = {column_mask & 0xffff, column_mask >> 16};                                              \
    const int32_t add = accumulate;                                                                                   \
    const char* p;                                                                                                    \
    int64_t step, n;                                                                                                  \
    asm volatile("kmovw %[mask0], %%k1\n kmovw %[mask1], %%k2\n" SLUICE_ROWS_##rows(SLUICE_ZERO) \
                 "1:\n mov 16(%[ahead]), %[n]\n test %[n], %[n]\n jz 3f\n" \
                 "mov (%[ahead]), %[p]\n mov 8(%[ahead]), %[step]\n add $24, %[ahead]\n" \
                 ".p2align 5\n" \
                 "2:\n" SLUICE_K_STEP(rows) SLUICE_K_STEP(rows) SLUICE_K_STEP(rows) \
                 "prefetcht0 (%[p])\n add %[step], %[p]\n dec %[n]\n jnz 2b\n jmp 1b\n" \
                 "3:\n mov %[rest], %[n]\n test %[n], %[n]\n jz 5f\n" \
                 "4:\n" SLUICE_K_STEP(rows) "dec %[n]\n jnz 4b\n" \
                 "5:\n mov %[c], %[p]\n mov %[ldc], %[step]\n cmpl $0, %[add]\n je 6f\n" SLUICE_ROWS_##rows(SLUICE_ADD) \
                 "mov %[c], %[p]\n 6:\n" SLUICE_ROWS_##rows(SLUICE_STORE) \
                 : [ahead] "+r"(ahead), [a0] "+r"(a0), [a3] "+r"(a3), [a6] "+r"(a6), [a9] "+r"(a9), [a12] "+r"(a12), [b] "+r"(b), [p] "=&r"(p), [step] "=&r"(step), [n] "=&r"(n) \
                 : [rs] "r"(rs), [ks] "r"(ks), [ldc] "m"(ldc_bytes), [add] "m"(add), [rest] "m"(rest), [c] "m"(c), [mask0] "m"(masks[0]), [mask1] "m"(masks[1]) \
                 : "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11",  \
                   "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21",          \
                   "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29", "zmm30", "zmm31", "k1",    \
                   "k2", "cc", "memory");                    \
  }

SLUICE_TILE_KERNEL(1)
SLUICE_TILE_KERNEL(2)
SLUICE_TILE_KERNEL(3)
SLUICE_TILE_KERNEL(4)
SLUICE_TILE_KERNEL(5)
SLUICE_TILE_KERNEL(6)
SLUICE_TILE_KERNEL(7)
SLUICE_TILE_KERNEL(8)
SLUICE_TILE_KERNEL(9)
SLUICE_TILE_KERNEL(10)
SLUICE_TILE_KERNEL(11)
SLUICE_TILE_KERNEL(12)
SLUICE_TILE_KERNEL(13)
SLUICE_TILE_KERNEL(14)

/// The kernel for a tile of 1..14 rows is kTileKernels[rows - 1].
inline constexpr TileKernel kTileKernels[kTileRows] = {
    tile_kernel_1, tile_kernel_2, tile_kernel_3,  tile_kernel_4,  tile_kernel_5,  tile_kernel_6,  tile_kernel_7,
    tile_kernel_8, tile_kernel_9, tile_kernel_10, tile_kernel_11, tile_kernel_12, tile_kernel_13, tile_kernel_14};

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
