#include "kernels/cpu/gemm_packed.h"

#if defined(__AVX512F__)

#include "kernels/core/thread_pool.h"
#include "kernels/cpu/gemm_pack_avx512.h"
#include "kernels/cpu/gemm_tile_avx512.h"

// The loops of a blocked product: of k, then of columns (their part of b is packed and stays in the second-level cache,
// beside a block of a), of rows, then tiles. Leaning on the last level instead halves the speed. Rows of a that run
// along k are read where they lie; columns are packed when their first columns of c are made, and kept for the others.
// What comes next is fetched while tiles are made: packing waits for memory otherwise, and nothing is multiplied
// meanwhile.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

constexpr int64_t kBlockK = 512;
constexpr int64_t kBlockRows = 6 * kTileRows;
constexpr int64_t kBlockColumns = 8 * kTileColumns;
constexpr int64_t kPackedB = kBlockColumns * kBlockK + kPackSlack;
constexpr int64_t kPackedA = ThreadPool::kWorkspaceBytes / 4 - kPackedB;
constexpr int64_t kPackedRows = (kPackedA - kPackSlack) / kBlockK / kBlockRows * kBlockRows;
static_assert(kPackedRows > 0);

int64_t parts(int64_t n, int64_t of) { return (n + of - 1) / of; }

/// Lines of a matrix that will be read soon, handed out row by row.
class Upcoming {
 public:
  Upcoming() = default;
  /// rows x columns floats, ld from one row to the next.
  Upcoming(const float* at, int64_t rows, int64_t columns, int64_t ld)
      : at_(at), rows_(rows), lines_a_row_(parts(columns, kLine)), ld_(ld) {}

  int64_t lines() const { return rows_ * lines_a_row_; }
  /// The next lines of a row, at most `most`; none at the end.
  Ahead take(int64_t most) {
    if (rows_ == 0) return {at_, 0, 0};
    const int64_t count = smaller(most, lines_a_row_ - line_);
    const Ahead run{at_ + line_ * kLine, kLine * 4, count};
    line_ += count;
    if (line_ == lines_a_row_) line_ = 0, at_ += ld_, --rows_;
    return run;
  }

 private:
  static constexpr int64_t kLine = 16;  // floats
  const float* at_ = nullptr;
  int64_t rows_ = 0, lines_a_row_ = 0, ld_ = 0, line_ = 0;
};

/// The block of op(a) from row i, or of op(b) from column j, and from k = l on, as it lies in memory.
Upcoming block_of_a(const Product<float>& p, int64_t i, int64_t l) {
  const int64_t rows = smaller(kBlockRows, p.m - i), depth = smaller(kBlockK, p.k - l);
  return p.a_transposed ? Upcoming(p.a + l * p.lda + i, depth, rows, p.lda)
                        : Upcoming(p.a + i * p.lda + l, rows, depth, p.lda);
}
Upcoming block_of_b(const Product<float>& p, int64_t j, int64_t l) {
  const int64_t columns = smaller(kBlockColumns, p.n - j), depth = smaller(kBlockK, p.k - l);
  return p.b_transposed ? Upcoming(p.b + j * p.ldb + l, columns, depth, p.ldb)
                        : Upcoming(p.b + l * p.ldb + j, depth, columns, p.ldb);
}

/// What is fetched during one tile: its c, then its share of what comes.
class TileAhead {
 public:
  TileAhead(int64_t k, const float* c, int64_t ldc, int64_t height) : left_(k / kStepsALine) {
    add({c, ldc * 4, height});
    add({c + 16, ldc * 4, height});
  }
  void add_share(Upcoming& upcoming, int64_t lines) {
    while (lines > 0 && left_ > 0 && end_ < stages_ + kMostStages - 2) {
      const Ahead run = upcoming.take(smaller(lines, left_));
      if (run.lines == 0) return;
      lines -= run.lines;
      add(run);
    }
  }
  /// All stages and their end; what is left of the steps fetches a line that is there.
  const Ahead* finish(const float* c) {
    add({c, 0, left_});
    *end_ = {c, 0, 0};
    return stages_;
  }

 private:
  static constexpr int kMostStages = 12;

  void add(Ahead run) {
    run.lines = smaller(run.lines, left_);
    if (run.lines == 0) return;
    *end_++ = run;
    left_ -= run.lines;
  }

  Ahead stages_[kMostStages];
  Ahead* end_ = stages_;
  int64_t left_;
};

/// What comes after the tiles of a block, and how many lines of it each of them fetches.
struct BlockAhead {
  Upcoming &a, &b;
  int64_t a_lines, b_lines;
};

/// c [rows, columns] = a b + (accumulate ? c : 0) with a [rows, k], b [k, columns] packed.
struct Block {
  int64_t rows, columns, k;
  const float* a;
  int64_t lda;  ///< from one row of a to the next; 0: packed
  const float* b;
  float* c;
  int64_t ldc;
  bool accumulate;

  TileRows rows_of_a(int64_t i, int64_t height) const {
    return lda > 0 ? TileRows{a + i * lda, lda, 1} : TileRows{a + i * k, 1, height};
  }
};

void multiply_block(const Block& block, const BlockAhead& upcoming) {
  for (int64_t j = 0; j < block.columns; j += kTileColumns) {
    const int64_t width = smaller(kTileColumns, block.columns - j);
    const uint32_t mask = width == kTileColumns ? ~0u : (1u << width) - 1;
    for (int64_t i = 0; i < block.rows; i += kTileRows) {
      const int64_t height = smaller(kTileRows, block.rows - i);
      float* tile = block.c + i * block.ldc + j;
      TileAhead ahead(block.k, tile, block.ldc, height);
      ahead.add_share(upcoming.a, upcoming.a_lines);
      ahead.add_share(upcoming.b, upcoming.b_lines);
      kTileKernels[height - 1](block.rows_of_a(i, height), block.k, ahead.finish(tile), block.b + j * block.k, tile,
                               block.ldc, mask, block.accumulate);
    }
  }
}

/// Rows [first, end) of a product, with room for packed operands.
class ProductRows {
 public:
  ProductRows(void* workspace, const Product<float>& product, int64_t first, int64_t end, const Product<float>* next)
      : packed_b_(static_cast<float*>(workspace)),
        packed_a_(packed_b_ + kPackedB),
        p_(product),
        first_(first),
        end_(end),
        next_(end == product.m ? next : nullptr) {}

  void multiply() {
    for (int64_t l = 0; l < p_.k; l += kBlockK) {
      for (int64_t j = 0; j < p_.n; j += kBlockColumns) multiply_columns(l, j);
    }
  }

 private:
  // In rows that lie a multiple of this apart, equal columns share a place in the first-level cache.
  static constexpr int64_t kConflict = 1024;

  void multiply_columns(int64_t l, int64_t j) {
    const int64_t depth = smaller(kBlockK, p_.k - l), columns = smaller(kBlockColumns, p_.n - j);
    const bool rows_lie_along_k = !p_.a_transposed && p_.lda % kConflict != 0;
    pack_b(p_.b_transposed, p_.b_transposed ? p_.b + j * p_.ldb + l : p_.b + l * p_.ldb + j, p_.ldb, columns, depth,
           packed_b_);
    const int64_t tile_columns = parts(columns, kTileColumns);
    Upcoming next_b = b_behind(l, j + columns);
    const int64_t b_lines = parts(next_b.lines(), parts(end_ - first_, kTileRows) * tile_columns);
    for (int64_t i = first_; i < end_; i += kBlockRows) {
      const int64_t rows = smaller(kBlockRows, end_ - i);
      const float* a = p_.a_transposed ? p_.a + l * p_.lda + i : p_.a + i * p_.lda + l;
      if (!rows_lie_along_k) {
        float* packed = packed_a_ + (i - first_) * depth;
        if (j == 0) pack_a(p_.a_transposed, a, p_.lda, rows, depth, packed);
        a = packed;
      }
      Upcoming next_a = a_behind(l, j, i + rows);
      const int64_t a_lines = parts(next_a.lines(), parts(rows, kTileRows) * tile_columns);
      multiply_block({rows, columns, depth, a, rows_lie_along_k ? p_.lda : 0, packed_b_, p_.c + i * p_.ldc + j, p_.ldc,
                      p_.accumulate || l > 0},
                     {next_a, next_b, a_lines, b_lines});
    }
  }

  /// The block of b behind columns that end at j.
  Upcoming b_behind(int64_t l, int64_t j) const {
    if (j < p_.n) return block_of_b(p_, j, l);
    if (l + kBlockK < p_.k) return block_of_b(p_, 0, l + kBlockK);
    return next_ ? block_of_b(*next_, 0, 0) : Upcoming();
  }

  /// The block of a that is read for the first time behind rows that end at i.
  Upcoming a_behind(int64_t l, int64_t j, int64_t i) const {
    if (i < end_) return j == 0 ? block_of_a(p_, i, l) : Upcoming();
    if (j + kBlockColumns < p_.n) return Upcoming();
    if (l + kBlockK < p_.k) return block_of_a(p_, first_, l + kBlockK);
    return next_ ? block_of_a(*next_, 0, 0) : Upcoming();
  }

  float *packed_b_, *packed_a_;
  const Product<float>& p_;
  int64_t first_, end_;
  const Product<float>* next_;
};

}  // namespace

void packed_gemm(void* workspace, const Product<float>& product, const Product<float>* next) {
  for (int64_t first = 0; first < product.m; first += kPackedRows) {
    ProductRows(workspace, product, first, smaller(product.m, first + kPackedRows), next).multiply();
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE

#else

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void packed_gemm(void*, const Product<float>&, const Product<float>*) {}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE

#endif
