#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

// One register of numbers, for loops the compiler does not vectorise by itself. In the namespace of the instruction set
// for the reason given in simd.h.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int64_t kVectorBytes = 32;
#else
constexpr int64_t kVectorBytes = 16;
#endif

template <class T>
struct RegisterOf {
  using Lane = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T type __attribute__((vector_size(kVectorBytes)));
  typedef Lane Lanes __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Register = typename RegisterOf<T>::type;
/// Elements of a Register.
template <class T>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

/// From any address of an element, as store().
template <class T>
inline Register<T> load(const T* from) {
  Register<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <class T>
inline void store(T* to, Register<T> v) {
  std::memcpy(to, &v, sizeof v);
}
template <class T>
inline Register<T> broadcast(T x) {
  return x - Register<T>{};
}

/// a * b + c, fused where the instruction set has it.
template <class T>
inline Register<T> fused(Register<T> a, Register<T> b, Register<T> c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_fmadd_ps(a, b, c);
  if constexpr (sizeof(T) == 8) return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return _mm256_fmadd_ps(a, b, c);
  if constexpr (sizeof(T) == 8) return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

/// Lane numbers for __builtin_shuffle, from f(lane).
template <class T, class F>
inline typename RegisterOf<T>::Lanes lane_numbers(const F& f) {
  typename RegisterOf<T>::Lanes numbers = {};
  for (int lane = 0; lane < kLanes<T>; ++lane) numbers[lane] = f(lane);
  return numbers;
}

/// combine(x, y) over all lanes as a tree.
template <class T, class Combine>
inline T fold(Register<T> v, const Combine& combine) {
#pragma GCC unroll 4
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
    v = combine(v, __builtin_shuffle(v, lane_numbers<T>([&](int lane) { return lane ^ half; })));
  }
  return v[0];
}

/// Turns kLanes rows into their transpose: every round interleaves the upper half of the rows with the lower.
template <class T>
inline void transpose(Register<T> (&rows)[kLanes<T>]) {
  constexpr int kWidth = kLanes<T>;
  const auto low = lane_numbers<T>([](int lane) { return lane / 2 + lane % 2 * kWidth; });
  const auto high = lane_numbers<T>([](int lane) { return (lane + kWidth) / 2 + lane % 2 * kWidth; });
#pragma GCC unroll 4
  for (int round = 1; round < kWidth; round *= 2) {
    Register<T> next[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i) {
      next[2 * i] = __builtin_shuffle(rows[i], rows[i + kWidth / 2], low);
      next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + kWidth / 2], high);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = next[i];
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
