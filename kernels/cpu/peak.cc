#include "kernels/peak.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

Vector multiply_add(Vector a, Vector b, Vector c) {
#if defined(__FMA__)
  Vector r = c;
#if defined(__AVX512F__)
  asm("vfmadd231ps %2, %1, %0" : "+v"(r) : "v"(a), "v"(b));
#else
  asm("vfmadd231ps %2, %1, %0" : "+x"(r) : "x"(a), "x"(b));
#endif
  return r;
#else
  return a * b + c;
#endif
}

}  // namespace

double run_multiply_adds(Stream&, int64_t rounds) {
  // Twelve chains cover the latency of two units; the factors keep the values finite.
  Vector sum[12] = {};
  Vector a = {}, b = {};
  for (int i = 0; i < kLanes; ++i) a[i] = 0.5f, b[i] = 1.0f;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sum[i] = multiply_add(sum[i], a, b);
  }
  for (int i = 0; i < 12; ++i) asm volatile("" : : "m"(sum[i]));
  return static_cast<double>(rounds) * 12 * kLanes * 2;
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
