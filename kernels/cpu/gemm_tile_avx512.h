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

/// c [rows, 32] = a b + (accumulate ? c : 0), columns beyond the mask untouched.
///   a [k][rows] packed, b [k][32] packed, c with ldc floats a row
using TileKernel = void (*)(int64_t k, const float* a, const float* b, float* c, int64_t ldc, uint32_t column_mask,
                            bool accumulate);

// Row i of the tile: registers x = 2 i and y = 2 i + 1; t alternates so that a broadcast need not wait for a product.
#define SLUICE_ROW_ZERO(x, y) \
  "vpxord %%zmm" #x ",%%zmm" #x ",%%zmm" #x "\n vpxord %%zmm" #y ",%%zmm" #y ",%%zmm" #y "\n"
#define SLUICE_ROW_PREFETCH() "prefetcht0 (%[p])\n prefetcht0 64(%[p])\n add %[ldc], %[p]\n"
#define SLUICE_ROW_STEP(offset, x, y, t)       \
  "vbroadcastss " #offset "(%[a]), %%zmm" #t   \
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
  "add %[ldc], %[p]\n"
#define SLUICE_ROW_STORE(x, y) \
  "vmovups %%zmm" #x           \
  ", (%[c])%{%%k1%}\n"         \
  "vmovups %%zmm" #y           \
  ", 64(%[c])%{%%k2%}\n"       \
  "add %[ldc], %[c]\n"

// F(ZERO), F(STEP), ... for the rows of a tile of each height.
#define SLUICE_ROWS_1(F) F(0, 0, 1, 30)
#define SLUICE_ROWS_2(F) SLUICE_ROWS_1(F) F(4, 2, 3, 31)
#define SLUICE_ROWS_3(F) SLUICE_ROWS_2(F) F(8, 4, 5, 30)
#define SLUICE_ROWS_4(F) SLUICE_ROWS_3(F) F(12, 6, 7, 31)
#define SLUICE_ROWS_5(F) SLUICE_ROWS_4(F) F(16, 8, 9, 30)
#define SLUICE_ROWS_6(F) SLUICE_ROWS_5(F) F(20, 10, 11, 31)
#define SLUICE_ROWS_7(F) SLUICE_ROWS_6(F) F(24, 12, 13, 30)
#define SLUICE_ROWS_8(F) SLUICE_ROWS_7(F) F(28, 14, 15, 31)
#define SLUICE_ROWS_9(F) SLUICE_ROWS_8(F) F(32, 16, 17, 30)
#define SLUICE_ROWS_10(F) SLUICE_ROWS_9(F) F(36, 18, 19, 31)
#define SLUICE_ROWS_11(F) SLUICE_ROWS_10(F) F(40, 20, 21, 30)
#define SLUICE_ROWS_12(F) SLUICE_ROWS_11(F) F(44, 22, 23, 31)
#define SLUICE_ROWS_13(F) SLUICE_ROWS_12(F) F(48, 24, 25, 30)
#define SLUICE_ROWS_14(F) SLUICE_ROWS_13(F) F(52, 26, 27, 31)

#define SLUICE_ZERO(offset, x, y, t) SLUICE_ROW_ZERO(x, y)
#define SLUICE_PREFETCH(offset, x, y, t) SLUICE_ROW_PREFETCH()
#define SLUICE_STEP(offset, x, y, t) SLUICE_ROW_STEP(offset, x, y, t)
#define SLUICE_ADD(offset, x, y, t) SLUICE_ROW_ADD(x, y)
#define SLUICE_STORE(offset, x, y, t) SLUICE_ROW_STORE(x, y)

#define SLUICE_TILE_KERNEL(rows)                                                                                                                                              \
  inline void tile_kernel_##rows(int64_t k, const float* a, const float* b, float* c, int64_t ldc,                                                                            \
                                 uint32_t column_mask, bool accumulate) {                                                                                                     \
    const float* p = c;                                                                                                                                                       \
    const int64_t add = accumulate, ldc_bytes = ldc * 4;                                                                                                                      \
    asm volatile("kmovw %[mask], %%k1\n shr $16, %[mask]\n kmovw %[mask], %%k2\n" SLUICE_ROWS_##rows(SLUICE_PREFETCH) "mov %[c], %[p]\n" SLUICE_ROWS_##rows(SLUICE_ZERO)    \
                 ".p2align 5\n"                                                                                      \
                 "1:\n vmovups (%[b]), %%zmm28\n vmovups 64(%[b]), %%zmm29\n" SLUICE_ROWS_##rows(SLUICE_STEP)        \
                 "add $4*" #rows ", %[a]\n add $128, %[b]\n dec %[k]\n jnz 1b\n"                                     \
                 "test %[add], %[add]\n jz 2f\n" SLUICE_ROWS_##rows(SLUICE_ADD) "2:\n" SLUICE_ROWS_##rows(           \
                     SLUICE_STORE)                                                                                   \
                 : [k] "+r"(k), [a] "+r"(a), [b] "+r"(b), [c] "+r"(c), [p] "+r"(p), [mask] "+r"(column_mask)         \
                 : [ldc] "r"(ldc_bytes), [add] "r"(add)                                                              \
                 : "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11", \
                   "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21",         \
                   "zmm22", "zmm23", "zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29", "zmm30", "zmm31", "k1",   \
                   "k2", "cc", "memory"); \
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

/// Sixteen rows of sixteen floats become sixteen columns.
inline void transpose_16x16(__m512 (&r)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const auto pd = [](__m512 x) { return _mm512_castps_pd(x); };
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[i]), pd(t[i + 2])));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[i]), pd(t[i + 2])));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[i + 1]), pd(t[i + 3])));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[i + 1]), pd(t[i + 3])));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
