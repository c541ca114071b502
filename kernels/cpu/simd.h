#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// Scalar pieces that the compiler vectorises inside loops. In the namespace of the instruction set, so that no two
// builds of the same function can be mistaken for each other by the linker.
namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

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

/// e^x. f32: range reduction by powers of two and a polynomial of degree 6, relative error about 1e-7, without a
/// branch; below -87.3 it gives about 1e-38 instead of 0, above 88.3 about 2e38, and NaN stays NaN.
inline float exponential(float x) {
  constexpr float kLog2e = 1.44269504088896341f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  float clamped = x < -87.3f ? -87.3f : x;
  clamped = clamped > 88.3f ? 88.3f : clamped;
  const float shifted = multiply_add(clamped, kLog2e, kRound);
  const float n = shifted - kRound;
  float r = multiply_add(n, -kLn2High, clamped);
  r = multiply_add(n, -kLn2Low, r);
  float p = 1.3981999507e-3f;
  p = multiply_add(p, r, 8.3334519073e-3f);
  p = multiply_add(p, r, 4.1665795894e-2f);
  p = multiply_add(p, r, 1.6666665459e-1f);
  p = multiply_add(p, r, 5.0000001201e-1f);
  p = multiply_add(p * r, r, r) + 1.0f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<int32_t>(static_cast<uint32_t>(bits) << 23);  // 2^23's own bits fall out on the left
  int32_t out;
  std::memcpy(&out, &p, sizeof out);
  out = static_cast<int32_t>(static_cast<uint32_t>(out) + static_cast<uint32_t>(bits));
  float y;
  std::memcpy(&y, &out, sizeof y);
  return y;
}
inline double exponential(double x) { return std::exp(x); }

template <class T>
inline T sigmoid(T x) {
  return T(1) / (T(1) + exponential(-x));
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
    T sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    return sum;
  }
};

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
