#include "kernels/attention.h"
#include "kernels/core/parallel_for.h"
#include "kernels/cpu/attention_group.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile_multiply.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// What a worker keeps of a tile of keys and the rows that meet it.
template <class T>
struct BackwardTile {
  BackwardTile(void* memory, int64_t padded) : BackwardTile(Workspace(memory), padded) {}

  T *k, *dk, *dv;                  ///< [kTileKeys, padded]
  T *k_transposed, *v_transposed;  ///< [padded, kTileKeys]
  int64_t* visible;                ///< [kTileRows] keys that a row sees
  T *q, *dout, *dq;                ///< [kTileRows, padded]
  T *p, *ds;                       ///< [kTileRows, kTileKeys] probabilities, and gradients of the unscaled logits

 private:
  BackwardTile(Workspace w, int64_t padded)
      : k(w.take<T>(kTileKeys * padded)),
        dk(w.take<T>(kTileKeys * padded)),
        dv(w.take<T>(kTileKeys * padded)),
        k_transposed(w.take<T>(padded * kTileKeys)),
        v_transposed(w.take<T>(padded * kTileKeys)),
        visible(w.take<int64_t>(kTileRows)),
        q(w.take<T>(kTileRows * padded)),
        dout(w.take<T>(kTileRows * padded)),
        dq(w.take<T>(kTileRows * padded)),
        p(w.take<T>(kTileRows * kTileKeys)),
        ds(w.take<T>(kTileRows * kTileKeys)) {}
};

/// The tensors of a call.
template <class T>
struct BackwardTensors {
  const T *q, *k, *v, *dout, *lse, *delta;
  T *dq, *dk, *dv;
  T scale;
};

/// From logits in p and gradients of the probabilities in ds to probabilities and gradients of the logits of a row;
/// clears what lies beyond `visible` in `columns`.
template <class T>
void softmax_backward(T* p, T* ds, int64_t visible, int64_t columns, T scale, T lse, T delta) {
  const Register<T> factor = broadcast(scale), reference = broadcast(-lse);
  for (int64_t c = 0; c < columns; c += kLanes<T>) {
    const Register<T> logit = fused<T>(load(p + c), factor, reference);
    const Register<T> x = first_lanes(decaying_exponential(logit), visible - c, T(0));
    store(p + c, x);
    store(ds + c, x * (load(ds + c) - delta) * scale);
  }
}

/// p and ds of rows [begin, begin + rows) and the first `limit` keys of the tile.
template <class T>
void recompute_tile(const AttentionGroup& g, const BackwardTensors<T>& x, const BackwardTile<T>& b, int64_t begin,
                    int64_t rows, int64_t first_key, int64_t limit) {
  const int64_t columns = round_to_vectors<T>(limit);
  TileProduct<T> product{.a = b.q,
                         .a_row = g.padded,
                         .a_depth = 1,
                         .b = b.k_transposed,
                         .b_depth = kTileKeys,
                         .c = b.p,
                         .c_row = kTileKeys,
                         .rows = rows,
                         .columns = columns,
                         .depth = g.width};
  multiply_tile<false>(product);
  product.a = b.dout;
  product.b = b.v_transposed;
  product.c = b.ds;
  multiply_tile<false>(product);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = g.head_row(begin + r);
    softmax_backward(b.p + r * kTileKeys, b.ds + r * kTileKeys, b.visible[r] - first_key, columns, x.scale, x.lse[row],
                     x.delta[row]);
  }
}

/// Which gradients a pass computes: all at once, or the keys' and the queries' apart, which costs two products more but
/// splits into as many independent pieces as there are tiles.
enum class Pass { kAll, kKeys, kQueries };

/// Adds rows [begin, begin + rows) to the gradients of the tile's keys, and the tile to the gradient of the rows.
template <class T>
void backward_tile(const AttentionGroup& g, const BackwardTensors<T>& x, const BackwardTile<T>& b, Pass pass,
                   int64_t begin, int64_t rows, int64_t first_key, int64_t limit) {
  pack_rows(g, x.q, begin, rows, b.q);
  pack_rows(g, x.dout, begin, rows, b.dout);
  recompute_tile(g, x, b, begin, rows, first_key, limit);
  if (pass != Pass::kQueries) {
    TileProduct<T> to_keys{.a = b.p,
                           .a_row = 1,
                           .a_depth = kTileKeys,
                           .b = b.dout,
                           .b_depth = g.padded,
                           .c = b.dv,
                           .c_row = g.padded,
                           .rows = limit,
                           .columns = g.padded,
                           .depth = rows};
    multiply_tile<true>(to_keys);
    to_keys.a = b.ds;
    to_keys.b = b.q;
    to_keys.c = b.dk;
    multiply_tile<true>(to_keys);
  }
  if (pass != Pass::kKeys) {
    multiply_tile<false>(TileProduct<T>{.a = b.ds,
                                        .a_row = kTileKeys,
                                        .a_depth = 1,
                                        .b = b.k,
                                        .b_depth = g.padded,
                                        .c = b.dq,
                                        .c_row = g.padded,
                                        .rows = rows,
                                        .columns = g.padded,
                                        .depth = limit});
    for (int64_t r = 0; r < rows; ++r) {
      T* dq = x.dq + g.head_row(begin + r) * g.width;
      for (int64_t i = 0; i < g.width; ++i) dq[i] += b.dq[r * g.padded + i];
    }
  }
}

/// The tile of keys that begins at `first_key`, and rows [begin, end).
template <class T>
void backward_keys(const AttentionGroup& g, const BackwardTensors<T>& x, const BackwardTile<T>& b, Pass pass,
                   int64_t first_key, int64_t begin, int64_t end) {
  const int64_t keys = smaller(kTileKeys, g.keys - first_key);
  const size_t tile_bytes = static_cast<size_t>(keys * g.padded) * sizeof(T);
  pack_keys(g, x.v, first_key, keys, b.k);
  transpose_keys(g, b.k, keys, b.v_transposed);
  pack_keys(g, x.k, first_key, keys, b.k);
  transpose_keys(g, b.k, keys, b.k_transposed);
  std::memset(b.dk, 0, tile_bytes);
  std::memset(b.dv, 0, tile_bytes);
  for (int64_t row = begin; row < end; row += kTileRows) {
    const int64_t rows = smaller(kTileRows, end - row);
    for (int64_t r = 0; r < rows; ++r) b.visible[r] = g.visible(row + r);
    const int64_t limit = smaller(keys, most_of(b.visible, rows) - first_key);
    if (limit > 0) backward_tile(g, x, b, pass, row, rows, first_key, limit);
  }
  if (pass == Pass::kQueries) return;
  for (int64_t c = 0; c < keys; ++c) {
    std::memcpy(x.dk + g.key_offset(first_key + c), b.dk + c * g.padded, static_cast<size_t>(g.width) * sizeof(T));
    std::memcpy(x.dv + g.key_offset(first_key + c), b.dv + c * g.padded, static_cast<size_t>(g.width) * sizeof(T));
  }
}

/// One share's part of a pass. Sums are taken in the same order in every pass and for any number of shares.
template <class T>
void backward_share(const AttentionInput& in, const BackwardTensors<T>& x, const BackwardTile<T>& b, Pass pass,
                    int64_t share, int64_t shares) {
  int64_t turn = 0;
  for_groups<T>(in, [&](const AttentionGroup& g) {
    const int64_t key_step = pass == Pass::kKeys ? kTileKeys : g.keys;
    const int64_t row_step = pass == Pass::kQueries ? kBlockRows : g.rows;
    for (int64_t row = 0; row < g.rows; row += row_step) {
      const int64_t end = smaller(g.rows, row + row_step);
      for (int64_t piece = 0; piece < g.keys; piece += key_step) {
        if (turn++ % shares != share) continue;
        for (int64_t key = piece; key < smaller(g.keys, piece + key_step); key += kTileKeys) {
          backward_keys(g, x, b, pass, key, row, end);
        }
      }
    }
  });
}

template <class T>
void clear(Stream& s, Tensor x) {
  parallel_for(s, x.count(), 4096, [&](int64_t begin, int64_t end, int) {
    std::memset(x.as<T>() + begin, 0, static_cast<size_t>(end - begin) * sizeof(T));
  });
}

/// delta = sum over head_dim of out * dout.
template <class T>
void compute_delta(Stream& s, Tensor out, Tensor dout, Tensor delta) {
  const int64_t width = out.dim(2);
  parallel_for(s, delta.count(), 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T *o = out.as<T>() + row * width, *d = dout.as<T>() + row * width;
      LaneSum<T> sum;
      sum.add(width, [&](int64_t i) { return o[i] * d[i]; });
      delta.as<T>()[row] = sum.total();
    }
  });
}

/// Two products of seven are done twice when the passes are apart, so a few groups more than threads go all at once.
bool groups_fill(int64_t groups, int64_t threads) {
  return (groups + threads - 1) / threads * threads * 5 <= groups * 7;
}

}  // namespace

void attention_backward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor dout, Tensor delta,
                        Tensor dq, Tensor dk, Tensor dv) {
  const int64_t shares = s.pool->threads(), groups = (in.query_offsets.dim(0) - 1) * in.k.dim(1);
  dispatch_float(in.q.dtype, [&]<class T>() {
    const BackwardTensors<T> x{in.q.as<T>(),  in.k.as<T>(), in.v.as<T>(), dout.as<T>(), lse.as<T>(),
                               delta.as<T>(), dq.as<T>(),   dk.as<T>(),   dv.as<T>(),   static_cast<T>(in.scale)};
    compute_delta<T>(s, out, dout, delta);
    for (const Tensor& gradient : {dq, dk, dv}) clear<T>(s, gradient);
    const auto run = [&](Pass pass) {
      parallel_for(s, shares, 1, [&](int64_t share, int64_t, int worker) {
        const BackwardTile<T> tile(s.pool->workspace(worker), round_to_vectors<T>(in.q.dim(2)));
        backward_share(in, x, tile, pass, share, shares);
      });
    };
    if (groups_fill(groups, shares)) return run(Pass::kAll);
    run(Pass::kKeys);
    run(Pass::kQueries);
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
