#include "kernels/cpu/gemm_packed.h"

#if defined(__AVX512F__)

#include "kernels/core/thread_pool.h"
#include "kernels/cpu/gemm_tile_avx512.h"

// The loops of a blocked product: of k, then of columns (their part of b stays in the second-level cache, the part of
// one tile in the first), of rows (a block of a beside it in the second level), then tiles. Leaning on the last level
// instead halves the speed. All rows of a are packed once a block of k, not again for every block of columns.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

constexpr int64_t kBlockK = 256;
constexpr int64_t kBlockRows = 12 * kTileRows;
constexpr int64_t kBlockColumns = 12 * kTileColumns;
// Transposing stores write whole vectors past the end of a panel.
constexpr int64_t kSlack = 64;
constexpr int64_t kPackedB = kBlockColumns * kBlockK + kSlack;
constexpr int64_t kPackedA = ThreadPool::kWorkspaceBytes / 4 - kPackedB;
constexpr int64_t kPackedRows = (kPackedA - kSlack) / kBlockK / kBlockRows * kBlockRows;
static_assert(kPackedRows > 0);

int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }

__mmask16 lanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1);
}

/// to[l * stride + i] = from[i * ld + l] for i < rows <= 16, l < k; writes 16 floats a column, zeros beyond rows.
void pack_transposed(const float* from, int64_t ld, int64_t rows, int64_t k, float* to, int64_t stride) {
  __m512 r[16];
  for (int64_t l = 0; l < k; l += 16) {
    const __mmask16 mask = lanes(k - l);
    for (int i = 0; i < 16; ++i) r[i] = i < rows ? _mm512_maskz_loadu_ps(mask, from + i * ld + l) : _mm512_setzero_ps();
    transpose_16x16(r);
    const int64_t columns = smaller(16, k - l);
    for (int64_t j = 0; j < columns; ++j) _mm512_storeu_ps(to + (l + j) * stride, r[j]);
  }
}

/// to[l * stride + i] = from[l * ld + i] for i < width <= 16; writes 16 floats a row, zeros beyond width.
void pack_rows(const float* from, int64_t ld, int64_t width, int64_t k, float* to, int64_t stride) {
  const __mmask16 mask = lanes(width);
  for (int64_t l = 0; l < k; ++l) _mm512_storeu_ps(to + l * stride, _mm512_maskz_loadu_ps(mask, from + l * ld));
}

void pack_strip(bool k_is_contiguous, const float* from, int64_t ld, int64_t width, int64_t k, float* to,
                int64_t stride) {
  if (k_is_contiguous) {
    pack_transposed(from, ld, width, k, to, stride);
  } else {
    pack_rows(from, ld, width, k, to, stride);
  }
}

/// Panels of kTileRows rows (the last may have fewer), each [k][its rows].
void pack_a(bool transposed, const float* a, int64_t lda, int64_t rows, int64_t k, float* to) {
  for (int64_t i = 0; i < rows; i += kTileRows) {
    const int64_t height = smaller(kTileRows, rows - i);
    pack_strip(!transposed, transposed ? a + i : a + i * lda, lda, height, k, to + i * k, height);
  }
}

/// Panels of kTileColumns columns, each [k][kTileColumns], zeros beyond the last column.
void pack_b(bool transposed, const float* b, int64_t ldb, int64_t columns, int64_t k, float* to) {
  for (int64_t j = 0; j < columns; j += kTileColumns) {
    for (int64_t half = 0; half < kTileColumns; half += 16) {
      const int64_t at = j + half, width = smaller(16, columns - at);
      float* strip = to + j * k + half;
      if (width <= 0) {
        pack_rows(b, 0, 0, k, strip, kTileColumns);
      } else {
        pack_strip(transposed, transposed ? b + at * ldb : b + at, ldb, width, k, strip, kTileColumns);
      }
    }
  }
}

void multiply_block(int64_t rows, int64_t columns, int64_t k, const float* a, const float* b, float* c, int64_t ldc,
                    bool accumulate) {
  for (int64_t j = 0; j < columns; j += kTileColumns) {
    const int64_t width = smaller(kTileColumns, columns - j);
    const uint32_t mask = width == kTileColumns ? ~0u : (1u << width) - 1;
    for (int64_t i = 0; i < rows; i += kTileRows) {
      const int64_t height = smaller(kTileRows, rows - i);
      kTileKernels[height - 1](k, a + i * k, b + j * k, c + i * ldc + j, ldc, mask, accumulate);
    }
  }
}

}  // namespace

void packed_gemm(void* workspace, bool a_transposed, bool b_transposed, int64_t m, int64_t n, int64_t k, const float* a,
                 int64_t lda, const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  float* packed_b = static_cast<float*>(workspace);
  float* packed_a = packed_b + kPackedB;
  for (int64_t first = 0; first < m; first += kPackedRows) {
    const int64_t end = smaller(m, first + kPackedRows);
    for (int64_t l = 0; l < k; l += kBlockK) {
      const int64_t depth = smaller(kBlockK, k - l);
      pack_a(a_transposed, a_transposed ? a + l * lda + first : a + first * lda + l, lda, end - first, depth, packed_a);
      for (int64_t j = 0; j < n; j += kBlockColumns) {
        const int64_t columns = smaller(kBlockColumns, n - j);
        pack_b(b_transposed, b_transposed ? b + j * ldb + l : b + l * ldb + j, ldb, columns, depth, packed_b);
        for (int64_t i = first; i < end; i += kBlockRows) {
          multiply_block(smaller(kBlockRows, end - i), columns, depth, packed_a + (i - first) * depth, packed_b,
                         c + i * ldc + j, ldc, accumulate || l > 0);
        }
      }
    }
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE

#else

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void packed_gemm(void*, bool, bool, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, bool,
                 float*, int64_t) {}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE

#endif
