#pragma once

#include <cstdint>

#include "kernels/cpu/gemm_tile_avx512.h"
#include "kernels/cpu/simd.h"

// Operands of the f32 GEMM for AVX-512 in the order in which its tiles read them.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// Floats that packing may write past the end of what it packs: its stores are whole vectors.
constexpr int64_t kPackSlack = 64;

inline __mmask16 lanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1);
}

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

/// to[l * stride + i] = from[i * ld + l] for i < rows <= 16, l < k; writes 16 floats a column, zeros beyond rows.
inline void pack_transposed(const float* from, int64_t ld, int64_t rows, int64_t k, float* to, int64_t stride) {
  __m512 r[16];
  for (int64_t l = 0; l < k; l += 16) {
    const __mmask16 mask = lanes(k - l);
    for (int i = 0; i < 16; ++i) r[i] = i < rows ? _mm512_maskz_loadu_ps(mask, from + i * ld + l) : _mm512_setzero_ps();
    transpose_16x16(r);
    const int64_t columns = smaller(16, k - l);
    for (int64_t j = 0; j < columns; ++j) _mm512_storeu_ps(to + (l + j) * stride, r[j]);
  }
}

/// Panels of kTileRows rows of op(a) (the last may have fewer), each [k][its rows].
inline void pack_a(bool transposed, const float* a, int64_t lda, int64_t rows, int64_t k, float* to) {
  for (int64_t i = 0; i < rows; i += kTileRows) {
    const int64_t height = smaller(kTileRows, rows - i);
    float* panel = to + i * k;
    if (!transposed) {
      pack_transposed(a + i * lda, lda, height, k, panel, height);
      continue;
    }
    // In order, for each store's surplus is overwritten by the next.
    const __mmask16 mask = lanes(height);
    for (int64_t l = 0; l < k; ++l) _mm512_storeu_ps(panel + l * height, _mm512_maskz_loadu_ps(mask, a + l * lda + i));
  }
}

/// Panels of kTileColumns columns of op(b), each [k][kTileColumns], zeros beyond the last column.
inline void pack_b(bool transposed, const float* b, int64_t ldb, int64_t columns, int64_t k, float* to) {
  constexpr int64_t kRowsAhead = 8;
  // All panels grow row by row: reading along the rows keeps the memory busy.
  for (int64_t l = 0; l < k && !transposed; ++l) {
    const float* row = b + l * ldb;
    for (int64_t j = 0; j < columns; j += 16) __builtin_prefetch(row + kRowsAhead * ldb + j);
    for (int64_t j = 0; j < columns; j += kTileColumns) {
      for (int64_t half = 0; half < kTileColumns; half += 16) {
        const __m512 part = _mm512_maskz_loadu_ps(lanes(columns - j - half), row + j + half);
        _mm512_storeu_ps(to + j * k + l * kTileColumns + half, part);
      }
    }
  }
  for (int64_t j = 0; j < columns && transposed; j += kTileColumns) {
    for (int64_t half = 0; half < kTileColumns; half += 16) {
      const int64_t at = smaller(j + half, columns);
      pack_transposed(b + at * ldb, ldb, columns - at, k, to + j * k + half, kTileColumns);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
