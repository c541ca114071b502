#pragma once

#include <cstdint>

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

/// Row-major c [m, n] = op(a) op(b) + (accumulate ? c : 0), with the elements from one row to the next.
template <class T>
struct Product {
  bool a_transposed, b_transposed;
  int64_t m, n, k;
  const T* a;
  int64_t lda;
  const T* b;
  int64_t ldb;
  bool accumulate;
  T* c;
  int64_t ldc;
};

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
