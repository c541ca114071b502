#pragma once

#include "kernels/attention.h"
#include "kernels/cpu/register.h"

// How attention is cut into pieces: the query heads that share a key/value head are one matrix of rows (token, head),
// so that they share its tiles.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// Keys of a tile, and rows that meet it at a time: their logits stay in the first-level cache.
constexpr int64_t kTileKeys = 128;
constexpr int64_t kTileRows = 48;
// Rows that share a packed tile of keys: packing costs one part in some hundred of the products.
constexpr int64_t kBlockRows = 12 * kTileRows;

/// One document and key/value head. Row r is the query head `r % heads` of the group at query token `r / heads`.
struct AttentionGroup {
  const int32_t* positions;  ///< of the document's queries
  int64_t first_query, keys_begin, keys;
  int64_t heads;          ///< query heads of the group
  int64_t rows;           ///< queries * heads
  int64_t width, padded;  ///< head_dim, and up to a whole number of vectors
  int64_t query_heads, kv_heads, kv_head;

  /// Index of row r in [query_tokens * query_heads].
  int64_t head_row(int64_t r) const { return (first_query + r / heads) * query_heads + kv_head * heads + r % heads; }
  /// Element offset of the c-th key in [key_tokens, kv_heads, head_dim].
  int64_t key_offset(int64_t c) const { return ((keys_begin + c) * kv_heads + kv_head) * width; }
  /// Number of keys that row r sees.
  int64_t visible(int64_t r) const { return positions[r / heads] + 1; }
};

inline int64_t most_of(const int64_t* values, int64_t count) {
  int64_t most = 0;
  for (int64_t i = 0; i < count; ++i) most = values[i] > most ? values[i] : most;
  return most;
}

template <class T>
int64_t round_to_vectors(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T>
AttentionGroup make_group(const AttentionInput& in, int64_t document, int64_t kv_head) {
  const int32_t* queries = in.query_offsets.as<int32_t>() + document;
  const int32_t* keys = in.key_offsets.as<int32_t>() + document;
  const int64_t heads = in.q.dim(1) / in.k.dim(1), width = in.q.dim(2);
  return {.positions = in.query_positions.as<int32_t>() + queries[0],
          .first_query = queries[0],
          .keys_begin = keys[0],
          .keys = keys[1] - keys[0],
          .heads = heads,
          .rows = (queries[1] - queries[0]) * heads,
          .width = width,
          .padded = round_to_vectors<T>(width),
          .query_heads = in.q.dim(1),
          .kv_heads = in.k.dim(1),
          .kv_head = kv_head};
}

/// Calls body(group) for every document and key/value head.
template <class T, class Body>
void for_groups(const AttentionInput& in, const Body& body) {
  for (int64_t document = 0; document + 1 < in.query_offsets.dim(0); ++document) {
    for (int64_t head = 0; head < in.k.dim(1); ++head) body(make_group<T>(in, document, head));
  }
}

/// Hands out pieces of a worker's workspace, aligned to cache lines.
class Workspace {
 public:
  explicit Workspace(void* memory) : next_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }

 private:
  char* next_;
};

/// Copies a row of `width` and fills it up to `padded` with zeros.
template <class T>
inline void copy_row(const T* from, int64_t width, int64_t padded, T* to) {
  int64_t i = 0;
  for (; i + kLanes<T> <= width; i += kLanes<T>) store(to + i, load(from + i));
  for (; i < width; ++i) to[i] = from[i];
  for (; i < padded; ++i) to[i] = 0;
}

/// Rows [begin, begin + count) of a [query_tokens, query_heads, head_dim] tensor as [count, padded].
template <class T>
void pack_rows(const AttentionGroup& g, const T* from, int64_t begin, int64_t count, T* to) {
  constexpr int64_t kAhead = 16;  // rows lie in pieces too short for the hardware to run ahead
  for (int64_t r = 0; r < count; ++r) {
    if (r + kAhead < count) __builtin_prefetch(from + g.head_row(begin + r + kAhead) * g.width);
    copy_row(from + g.head_row(begin + r) * g.width, g.width, g.padded, to + r * g.padded);
  }
}

/// Keys [begin, begin + count) of a [key_tokens, kv_heads, head_dim] tensor as [count, padded].
template <class T>
void pack_keys(const AttentionGroup& g, const T* from, int64_t begin, int64_t count, T* to) {
  for (int64_t c = 0; c < count; ++c) {
    copy_row(from + g.key_offset(begin + c), g.width, g.padded, to + c * g.padded);
  }
}

/// Packed keys [count, padded] as [padded, kTileKeys], with zeros for the keys up to a whole number of vectors.
template <class T>
void transpose_keys(const AttentionGroup& g, const T* packed, int64_t count, T* to) {
  constexpr int64_t kWidth = kLanes<T>;
  for (int64_t first = 0; first < count; first += kWidth) {
    for (int64_t column = 0; column < g.padded; column += kWidth) {
      Register<T> block[kWidth];
      for (int64_t c = 0; c < kWidth; ++c) {
        block[c] = first + c < count ? load(packed + (first + c) * g.padded + column) : Register<T>{};
      }
      transpose<T>(block);
      for (int64_t i = 0; i < kWidth; ++i) store(to + (column + i) * kTileKeys + first, block[i]);
    }
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
