#include "kernels/attention.h"

#include <cmath>
#include <limits>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/attention_group.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile_multiply.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// What a worker keeps of a block of rows.
template <class T>
struct ForwardBlock {
  ForwardBlock(void* memory, int64_t padded) : ForwardBlock(Workspace(memory), padded) {}

  T *q, *out;        ///< [kBlockRows, padded]
  int64_t* visible;  ///< [kBlockRows] keys that a row sees
  T *most, *sum;     ///< [kBlockRows] largest logit so far, and the sum of exponentials relative to it
  T* k_transposed;   ///< [padded, kTileKeys]
  T* v;              ///< [kTileKeys, padded]
  T* p;              ///< [kTileRows, kTileKeys] logits, then probabilities

 private:
  ForwardBlock(Workspace w, int64_t padded)
      : q(w.take<T>(kBlockRows * padded)),
        out(w.take<T>(kBlockRows * padded)),
        visible(w.take<int64_t>(kBlockRows)),
        most(w.take<T>(kBlockRows)),
        sum(w.take<T>(kBlockRows)),
        k_transposed(w.take<T>(padded * kTileKeys)),
        v(w.take<T>(kTileKeys * padded)),
        p(w.take<T>(kTileRows * kTileKeys)) {}
};

/// One step of the online softmax: turns `visible` logits of a row into exponentials relative to the largest so far,
/// clears the rest of `columns`, and rescales what the row has summed before.
template <class T>
void softmax_step(T* p, int64_t visible, int64_t columns, T scale, T* most, T* sum, T* out, int64_t padded) {
  constexpr T kNone = -std::numeric_limits<T>::max();
  const int64_t whole = visible / kLanes<T> * kLanes<T>, rest = visible - whole;
  Register<T> tile_most = broadcast(kNone);
  for (int64_t c = 0; c < whole; c += kLanes<T>) tile_most = larger<T>(tile_most, load(p + c));
  if (rest > 0) tile_most = larger<T>(tile_most, first_lanes(load(p + whole), rest, kNone));

  const T before = *most, after = scale * fold<T>(tile_most, larger<T>);
  if (after > before) {
    const T shrink = exponential(before - after);
    for (int64_t i = 0; i < padded; i += kLanes<T>) store(out + i, load(out + i) * shrink);
    *sum *= shrink;
    *most = after;
  }
  const Register<T> factor = broadcast(scale), reference = broadcast(-*most);
  const auto relative = [&](int64_t c) { return decaying_exponential(fused<T>(load(p + c), factor, reference)); };
  Register<T> sums = {};
  for (int64_t c = 0; c < whole; c += kLanes<T>) {
    const Register<T> x = relative(c);
    store(p + c, x);
    sums += x;
  }
  for (int64_t c = whole; c < columns; c += kLanes<T>) {
    const Register<T> x = c < visible ? first_lanes(relative(c), rest, T(0)) : Register<T>{};
    store(p + c, x);
    sums += x;
  }
  *sum += fold<T>(sums, [](Register<T> a, Register<T> b) { return a + b; });
}

/// Adds a tile of `keys` keys from `first_key` on to rows [row, row + rows) of the block.
template <class T>
void attend_tile(const AttentionGroup& g, const ForwardBlock<T>& b, T scale, int64_t row, int64_t rows,
                 int64_t first_key, int64_t keys) {
  const int64_t limit = smaller(keys, most_of(b.visible + row, rows) - first_key);
  if (limit <= 0) return;
  const int64_t columns = round_to_vectors<T>(limit);
  T* out = b.out + row * g.padded;
  multiply_tile<false>(TileProduct<T>{.a = b.q + row * g.padded,
                                      .a_row = g.padded,
                                      .a_depth = 1,
                                      .b = b.k_transposed,
                                      .b_depth = kTileKeys,
                                      .c = b.p,
                                      .c_row = kTileKeys,
                                      .rows = rows,
                                      .columns = columns,
                                      .depth = g.width});
  for (int64_t r = 0; r < rows; ++r) {
    T* p = b.p + r * kTileKeys;
    const int64_t visible = smaller(limit, b.visible[row + r] - first_key);
    if (visible > 0) {
      softmax_step(p, visible, columns, scale, b.most + row + r, b.sum + row + r, out + r * g.padded, g.padded);
    } else {
      for (int64_t c = 0; c < columns; ++c) p[c] = 0;
    }
  }
  multiply_tile<true>(TileProduct<T>{.a = b.p,
                                     .a_row = kTileKeys,
                                     .a_depth = 1,
                                     .b = b.v,
                                     .b_depth = g.padded,
                                     .c = out,
                                     .c_row = g.padded,
                                     .rows = rows,
                                     .columns = g.padded,
                                     .depth = limit});
}

template <class T>
void forward_block(const AttentionGroup& g, const AttentionInput& in, const ForwardBlock<T>& b, int64_t begin,
                   int64_t rows, T* out, T* lse, T* largest) {
  pack_rows(g, in.q.as<T>(), begin, rows, b.q);
  std::memset(b.out, 0, static_cast<size_t>(rows * g.padded) * sizeof(T));
  for (int64_t r = 0; r < rows; ++r) {
    b.visible[r] = g.visible(begin + r);
    b.most[r] = -std::numeric_limits<T>::max();
    b.sum[r] = 0;
  }
  const int64_t visible = most_of(b.visible, rows);
  for (int64_t key = 0; key < visible; key += kTileKeys) {
    const int64_t keys = smaller(kTileKeys, visible - key);
    pack_keys(g, in.k.as<T>(), key, keys, b.v);
    transpose_keys(g, b.v, keys, b.k_transposed);
    pack_keys(g, in.v.as<T>(), key, keys, b.v);
    for (int64_t row = 0; row < rows; row += kTileRows) {
      attend_tile(g, b, static_cast<T>(in.scale), row, smaller(kTileRows, rows - row), key, keys);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t to = g.head_row(begin + r);
    const T share = T(1) / b.sum[r];
    for (int64_t i = 0; i < g.width; ++i) out[to * g.width + i] = b.out[r * g.padded + i] * share;
    lse[to] = b.most[r] + std::log(b.sum[r]);
    if (largest) largest[to] = b.most[r];
  }
}

}  // namespace

void attention_forward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor largest) {
  const int64_t shares = s.pool->threads();
  dispatch_float(in.q.dtype, [&]<class T>() {
    parallel_for(s, shares, 1, [&](int64_t share, int64_t, int worker) {
      const ForwardBlock<T> block(s.pool->workspace(worker), round_to_vectors<T>(in.q.dim(2)));
      int64_t turn = 0;
      for_groups<T>(in, [&](const AttentionGroup& g) {
        for (int64_t begin = 0; begin < g.rows; begin += kBlockRows) {
          if (turn++ % shares != share) continue;
          forward_block(g, in, block, begin, smaller(kBlockRows, g.rows - begin), out.as<T>(), lse.as<T>(),
                        largest ? largest.as<T>() : nullptr);
        }
      });
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
