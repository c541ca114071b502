#pragma once

#include "kernels/cpu/register.h"

// The small matrix products inside attention: operands lie in the caches, one side is as narrow as a head.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// c [rows, columns] = a [rows, depth] * b [depth, columns]; `columns` is a multiple of kLanes.
/// a is read by strides, so that it may be a transpose; rows of b and c are contiguous.
template <class T>
struct TileProduct {
  const T* a;
  int64_t a_row, a_depth;  ///< strides in elements
  const T* b;
  int64_t b_depth;
  T* c;
  int64_t c_row;
  int64_t rows, columns, depth;
};

#if defined(__AVX512F__)
constexpr int kRegisterVectors = 4;
#else
constexpr int kRegisterVectors = 2;
#endif
constexpr int kRegisterRows = 6;

/// kRows x kVectors sums held in registers over the whole depth.
template <int kRows, int kVectors, bool kAdd, class T>
[[gnu::noinline]] void multiply_registers(const TileProduct<T>& p, int64_t row, int64_t column) {
  constexpr int64_t kWidth = kLanes<T>;
  const T* a = p.a + row * p.a_row;
  const T* b = p.b + column;
  const int64_t a_row = p.a_row, a_depth = p.a_depth, b_depth = p.b_depth;
  Register<T> sum[kRows][kVectors] = {};
  for (int64_t depth = p.depth; depth > 0; --depth, a += a_depth, b += b_depth) {
    Register<T> across[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) across[v] = load(b + v * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Register<T> down = broadcast(a[r * a_row]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = fused<T>(down, across[v], sum[r][v]);
    }
  }
  T* c = p.c + row * p.c_row + column;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      T* to = c + r * p.c_row + v * kWidth;
      store(to, kAdd ? load(to) + sum[r][v] : sum[r][v]);
    }
  }
}

template <int kRows, bool kAdd, class T>
void multiply_last_rows(const TileProduct<T>& p, int64_t row, int64_t column, int vectors) {
  if constexpr (kRows > 0) {
    if (p.rows - row < kRows) return multiply_last_rows<kRows - 1, kAdd>(p, row, column, vectors);
    if constexpr (kRegisterVectors == 4) {
      if (vectors == 4) return multiply_registers<kRows, 4, kAdd>(p, row, column);
    }
    if (vectors == 2) return multiply_registers<kRows, 2, kAdd>(p, row, column);
    multiply_registers<kRows, 1, kAdd>(p, row, column);
  }
}

/// Computes the product, or adds it to c when kAdd.
template <bool kAdd, class T>
void multiply_tile(const TileProduct<T>& p) {
  for (int64_t column = 0; column < p.columns;) {
    const int64_t left = (p.columns - column) / kLanes<T>;
    const int vectors = left >= kRegisterVectors ? kRegisterVectors : left >= 2 ? 2 : 1;
    // A panel of b stays in the first-level cache while the rows of a pass by.
    for (int64_t row = 0; row < p.rows; row += kRegisterRows)
      multiply_last_rows<kRegisterRows, kAdd>(p, row, column, vectors);
    column += vectors * kLanes<T>;
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
