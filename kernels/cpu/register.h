#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

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

/// f(0), f(1), ...: lane numbers for __builtin_shuffle. Written out at once, or GCC builds them at run time.
template <class T, class F>
inline typename RegisterOf<T>::Lanes lane_numbers(const F& f) {
  using Numbers = RegisterOf<T>;
  return [&]<int... kLane>(std::integer_sequence<int, kLane...>) {
    return typename Numbers::Lanes{static_cast<typename Numbers::Lane>(f(kLane))...};
  }
  (std::make_integer_sequence<int, static_cast<int>(kLanes<T>)>());
}

template <class T>
inline Register<T> larger(Register<T> a, Register<T> b) {
  return a > b ? a : b;
}

/// The first `count` lanes, `other` in the rest.
template <class T>
inline Register<T> first_lanes(Register<T> v, int64_t count, T other) {
  using Lane = typename RegisterOf<T>::Lane;
  const auto number = lane_numbers<T>([](int lane) { return lane; });
  return number < static_cast<Lane>(count) ? v : broadcast(other);
}

/// combine(x, y) over the first `kCount` lanes, as a tree.
template <class T, int64_t kCount = kLanes<T>, class Combine>
inline T fold(Register<T> v, const Combine& combine) {
  if constexpr (kCount == 1) return v[0];
  constexpr int64_t kHalf = kCount / 2;
  const auto upper = lane_numbers<T>([](int lane) { return (lane + kHalf) % kLanes<T>; });
  if constexpr (kCount > 1) return fold<T, kHalf>(combine(v, __builtin_shuffle(v, upper)), combine);
}

/// e^x for x <= 0, the polynomial of exponential() in simd.h; 0 below -87.3 in f32.
inline Register<float> decaying_exponential(Register<float> x) {
  constexpr float kLeast = -87.3f, kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const auto polynomial = [](Register<float> sum, Register<float> r, float next) {
    return fused<float>(sum, r, broadcast(next));
  };
  const Register<float> shifted = polynomial(larger<float>(x, broadcast(kLeast)), broadcast(1.44269504f), kRound);
  const Register<float> n = shifted - kRound;
  Register<float> r = fused<float>(n, broadcast(-0.693359375f), x);
  r = fused<float>(n, broadcast(2.12194440e-4f), r);
  Register<float> p = polynomial(broadcast(1.3981999507e-3f), r, 8.3334519073e-3f);
  p = polynomial(p, r, 4.1665795894e-2f);
  p = polynomial(p, r, 1.6666665459e-1f);
  p = polynomial(p, r, 5.0000001201e-1f);
  p = fused<float>(p * r, r, r);
  using Integers = RegisterOf<float>::Lanes;
  // n sits in the low bits of `shifted`; 2^23's own bits fall out on the left.
  const Register<float> power = reinterpret_cast<Register<float>>((reinterpret_cast<Integers>(shifted) + 127) << 23);
  return x < kLeast ? Register<float>{} : fused<float>(p, power, power);
}
inline Register<double> decaying_exponential(Register<double> x) {
  for (int64_t lane = 0; lane < kLanes<double>; ++lane) x[lane] = std::exp(x[lane]);
  return x;
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
