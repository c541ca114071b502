#include "kernels/elementwise.h"

#include <cstring>
#include <emmintrin.h>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

constexpr int64_t kGrain = 4096;

uint16_t round_to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // a quiet NaN
  bits += 0x7fff + (bits >> 16 & 1);
  return static_cast<uint16_t>(bits >> 16);
}

template <class From, class To>
void convert(Stream& s, Tensor x, Tensor out) {
  const From* from = static_cast<const From*>(x.data);
  To* to = static_cast<To*>(out.data);
  parallel_for(s, x.count(), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) to[i] = static_cast<To>(from[i]);
  });
}

template <class From>
void convert_to_bf16(Stream& s, Tensor x, Tensor out) {
  const From* from = static_cast<const From*>(x.data);
  uint16_t* to = static_cast<uint16_t*>(out.data);
  parallel_for(s, x.count(), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) to[i] = round_to_bf16(static_cast<float>(from[i]));
  });
}

/// Past the caches where they could not hold it anyway: lines that are written whole need not be read first.
void zero(char* at, int64_t bytes) {
  constexpr int64_t kBeyondCaches = int64_t{128} << 20, kLine = 64;
  if (bytes < kBeyondCaches) {
    std::memset(at, 0, static_cast<size_t>(bytes));
    return;
  }
  const int64_t head = -static_cast<int64_t>(reinterpret_cast<uintptr_t>(at)) & (kLine - 1);
  const int64_t lines = (bytes - head) / kLine, tail = bytes - head - lines * kLine;
  std::memset(at, 0, static_cast<size_t>(head));
  auto* part = reinterpret_cast<__m128i*>(at + head);
  for (int64_t i = 0; i < lines * 4; ++i) _mm_stream_si128(part + i, _mm_setzero_si128());
  _mm_sfence();
  std::memset(at + bytes - tail, 0, static_cast<size_t>(tail));
}

}  // namespace

void add(Stream& s, Tensor a, Tensor b, Tensor out) {
  dispatch_float(a.dtype, [&]<class T>() {
    const T *x = a.as<T>(), *y = b.as<T>();
    T* z = out.as<T>();
    parallel_for(s, a.count(), kGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) z[i] = x[i] + y[i];
    });
  });
}

void difference(Stream& s, Tensor a, Tensor b, Tensor out) {
  dispatch_float(a.dtype, [&]<class T>() {
    const T *x = a.as<T>(), *y = b.as<T>();
    T* z = out.as<T>();
    parallel_for(s, a.count(), kGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) z[i] = x[i] - y[i];
    });
  });
}

void fill_zero(Stream& s, Tensor x) {
  char* bytes = static_cast<char*>(x.data);
  parallel_for(s, x.bytes(), kGrain, [&](int64_t begin, int64_t end, int) { zero(bytes + begin, end - begin); });
}

void scale(Stream& s, Tensor x, double factor) {
  dispatch_float(x.dtype, [&]<class T>() {
    T* y = x.as<T>();
    const T f = static_cast<T>(factor);
    parallel_for(s, x.count(), kGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) y[i] *= f;
    });
  });
}

void clip(Stream& s, Tensor x, double limit, Tensor out) {
  dispatch_float(x.dtype, [&]<class T>() {
    const T *from = x.as<T>(), most = static_cast<T>(limit);
    T* to = out.as<T>();
    parallel_for(s, x.count(), kGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const T low = from[i] < -most ? -most : from[i];
        to[i] = low > most ? most : low;
      }
    });
  });
}

void clip_backward(Stream& s, Tensor dout, Tensor x, double limit, Tensor dx) {
  dispatch_float(x.dtype, [&]<class T>() {
    const T *d = dout.as<T>(), *at = x.as<T>(), most = static_cast<T>(limit);
    T* to = dx.as<T>();
    parallel_for(s, x.count(), kGrain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) to[i] = at[i] >= -most && at[i] <= most ? d[i] : T(0);
    });
  });
}

void cast(Stream& s, Tensor x, Tensor out) {
  dispatch_float(x.dtype, [&]<class T>() {
    if (out.dtype == DType::kBF16) return convert_to_bf16<T>(s, x, out);
    if (out.dtype == DType::kF32) return convert<T, float>(s, x, out);
    convert<T, double>(s, x, out);
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
