#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

// Scalar pieces that the compiler vectorises inside loops. In the namespace of the instruction set, so that no two
// builds of the same function can be mistaken for each other by the linker.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// a * b + c, fused where the instruction set has it.
template <class T>
inline T multiply_add(T a, T b, T c) {
#if defined(__FMA__)
  if constexpr (sizeof(T) == 4) return __builtin_fmaf(a, b, c);
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

inline int32_t bits_of(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of(int32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

/// condition ? a : b without a branch: the compiler would copy all that follows behind each side of one, and a copy
/// that starts from a limit's constant computes slow subnormals that nobody uses.
inline float select(bool condition, float a, float b) {
  const int32_t mask = -static_cast<int32_t>(condition);
  return float_of((bits_of(a) & mask) | (bits_of(b) & ~mask));
}

/// e^x. f32: range reduction by powers of two and a polynomial of degree 6, relative error below 1e-7, without a
/// branch; below -87.3 it gives about 1e-38 instead of 0, above 88.3 about 2e38, and NaN stays NaN. A loop that calls
/// it is not vectorised, so no file with many of them may leave it out of line.
[[gnu::always_inline]] inline float exponential(float x) {
  constexpr float kLog2e = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  float clamped = select(x < -87.3f, -87.3f, x);
  clamped = select(clamped > 88.3f, 88.3f, clamped);
  const float shifted = multiply_add(clamped, kLog2e, kRound);
  const float n = shifted - kRound;
  float r = multiply_add(n, -kLn2High, clamped);
  r = multiply_add(n, -kLn2Low, r);
  float p = 1.38142216e-3f;
  p = multiply_add(p, r, 8.36889911e-3f);
  p = multiply_add(p, r, 4.16684039e-2f);
  p = multiply_add(p, r, 1.66665196e-1f);
  p = multiply_add(p, r, 4.9999994e-1f);
  p = multiply_add(p * r, r, r);
  // n sits in the low bits of `shifted`; 2^23's own bits fall out on the left.
  const uint32_t exponent = static_cast<uint32_t>(bits_of(shifted)) + 127;
  const float power = float_of(static_cast<int32_t>(exponent << 23));
  return multiply_add(p, power, power);
}
inline double exponential(double x) { return std::exp(x); }

/// Natural logarithm of a normal positive number. f32: a series in (m - 1) / (m + 1) for the mantissa m in
/// [0.70, 1.41), absolute error about 1e-7.
inline float logarithm(float x) {
  constexpr int32_t kOneOverRootTwo = 0x3f3504f3;
  const int32_t offset = bits_of(x) - kOneOverRootTwo;
  const int32_t exponent = offset >> 23;
  const float m = float_of(bits_of(x) - exponent * (1 << 23));
  const float u = (m - 1.0f) / (m + 1.0f), u2 = u * u;
  float p = 2.0f / 9;
  p = multiply_add(p, u2, 2.0f / 7);
  p = multiply_add(p, u2, 2.0f / 5);
  p = multiply_add(p, u2, 2.0f / 3);
  p = multiply_add(p, u2, 2.0f);
  return multiply_add(static_cast<float>(exponent), 0.693147181f, p * u);
}
inline double logarithm(double x) { return std::log(x); }

template <class T>
inline T sigmoid(T x) {
  return T(1) / (T(1) + exponential(-x));
}

/// Brings `count` elements some way behind `at` into the cache: the processor by itself runs too little ahead of a loop
/// over much memory.
template <class T>
inline void fetch_ahead(const T* at, int64_t count) {
  constexpr int64_t kAheadBytes = 2048, kLineBytes = 64;
  const char* from = reinterpret_cast<const char*>(at) + kAheadBytes;
  for (int64_t i = 0; i < count * static_cast<int64_t>(sizeof(T)); i += kLineBytes) __builtin_prefetch(from + i);
}

/// Sums in lanes: the compiler may vectorise them, and their order is fixed.
template <class T>
struct LaneSum {
  static constexpr int kLanes = 64 / sizeof(T);
  T lanes[kLanes] = {};

  /// Adds f(i) for i in [0, n).
  template <class F>
  inline void add(int64_t n, const F& f) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += f(i + lane);
    }
    for (int lane = 0; i < n; ++i, ++lane) lanes[lane] += f(i);
  }
  inline T total() const {
    T sums[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] = lanes[lane];
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
    }
    return sums[0];
  }
};

/// A register of numbers, and one of the integers that comparing two gives. For what the compiler does not vectorise.
template <class T>
struct Vector {
#if defined(__AVX__)
  static constexpr int kBytes = 32;
#else
  static constexpr int kBytes = 16;
#endif
  static constexpr int kLanes = kBytes / sizeof(T);
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T Numbers __attribute__((vector_size(kBytes)));
  typedef Integer Integers __attribute__((vector_size(kBytes)));
};

/// Largest of x[0..n) and `least`; NaN is never larger.
template <class T>
inline T largest(const T* x, int64_t n, T least) {
  using Numbers = typename Vector<T>::Numbers;
  constexpr int kLanes = Vector<T>::kLanes;
  Numbers most = Numbers{} + least, other = most;
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    Numbers next, after;
    std::memcpy(&next, x + i, sizeof next);
    std::memcpy(&after, x + i + kLanes, sizeof after);
    most = next > most ? next : most;
    other = after > other ? after : other;
  }
  most = other > most ? other : most;
  T result = least;
  for (int lane = 0; lane < kLanes; ++lane) result = most[lane] > result ? most[lane] : result;
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
