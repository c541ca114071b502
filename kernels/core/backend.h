#pragma once

#include <optional>
#include <type_traits>

#include "kernels/core/stream.h"

// One line an op: SLUICE_BACKENDS(void f(Stream& s, Args a);) declares the body that every backend has, and
// SLUICE_DISPATCH(f, s, a) calls the one of the stream, or tells its planner of an op that moves its tensors once;
// SLUICE_DISPATCH_WITH_COST of one with another OpCost.
// kernels/cpu/*.cc is compiled once an instruction set, inside namespace SLUICE_CPU_NAMESPACE; with kWithCuda false the
// CUDA body is never referenced and needs no stub.
namespace sluice {

#ifdef SLUICE_WITH_CUDA
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

/// Of all tensors among an op's arguments.
template <class... Arguments>
double bytes_of_tensors(const Arguments&... arguments) {
  const auto bytes = [](const auto& argument) {
    if constexpr (std::is_same_v<std::decay_t<decltype(argument)>, Tensor>)
      return argument ? static_cast<double>(argument.bytes()) : 0.0;
    else
      return 0.0;
  };
  return (bytes(arguments) + ... + 0.0);
}

/// From an op's beginning to its end.
class ObservedOp {
 public:
  ObservedOp(OpObserver& observer, const OpCost& cost) : observer_(observer), cost_(cost) { observer_.before(cost_); }
  ~ObservedOp() { observer_.after(cost_); }
  ObservedOp(const ObservedOp&) = delete;
  ObservedOp& operator=(const ObservedOp&) = delete;

 private:
  OpObserver& observer_;
  const OpCost cost_;
};

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

#define SLUICE_DISPATCH(op, stream, ...) \
  SLUICE_DISPATCH_WITH_COST((OpCost{#op, 0, bytes_of_tensors(__VA_ARGS__)}), op, stream, __VA_ARGS__)

#define SLUICE_DISPATCH_WITH_COST(cost, op, stream, ...)               \
  do {                                                                 \
    if ((stream).planner) {                                            \
      (stream).planner->add(cost);                                     \
      break;                                                           \
    }                                                                  \
    std::optional<ObservedOp> observed;                                \
    if ((stream).observer) observed.emplace(*(stream).observer, cost); \
    if constexpr (kWithCuda)                                           \
      if ((stream).is_cuda()) return cuda::op(stream, __VA_ARGS__);    \
    switch ((stream).isa) {                                            \
      case Isa::kAvx512:                                               \
        return cpu::avx512::op(stream, __VA_ARGS__);                   \
      case Isa::kAvx2:                                                 \
        return cpu::avx2::op(stream, __VA_ARGS__);                     \
      case Isa::kPortable:                                             \
        return cpu::portable::op(stream, __VA_ARGS__);                 \
    }                                                                  \
  } while (false)
