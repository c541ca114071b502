#pragma once

#include "kernels/core/stream.h"

// One line an op: SLUICE_BACKENDS(void f(Stream& s, Args a);) declares the body that every backend has, and
// SLUICE_DISPATCH(s, f(s, a)) calls the one of the stream. kernels/cpu/*.cc is compiled once an instruction set, inside
// namespace SLUICE_CPU_NAMESPACE; with kWithCuda false the CUDA body is never referenced and needs no stub.
namespace sluice {

#ifdef SLUICE_WITH_CUDA
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

}  // namespace sluice

#define SLUICE_BACKENDS(...)        \
  namespace sluice::cuda {          \
  __VA_ARGS__                       \
  }                                 \
  namespace sluice::cpu::portable { \
  __VA_ARGS__                       \
  }                                 \
  namespace sluice::cpu::avx2 {     \
  __VA_ARGS__                       \
  }                                 \
  namespace sluice::cpu::avx512 {   \
  __VA_ARGS__                       \
  }

#define SLUICE_DISPATCH(stream, ...)                    \
  do {                                                  \
    if constexpr (kWithCuda)                            \
      if ((stream).is_cuda()) return cuda::__VA_ARGS__; \
    switch ((stream).isa) {                             \
      case Isa::kAvx512:                                \
        return cpu::avx512::__VA_ARGS__;                \
      case Isa::kAvx2:                                  \
        return cpu::avx2::__VA_ARGS__;                  \
      case Isa::kPortable:                              \
        return cpu::portable::__VA_ARGS__;              \
    }                                                   \
  } while (false)
