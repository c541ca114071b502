#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/gate.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

template <class T>
struct Activated {
  T value, slope;
};

/// A gate's activation and its derivative; what is not used costs nothing once inlined.
template <GateActivation kActivation, class T>
inline Activated<T> activate(T z) {
  if constexpr (kActivation == GateActivation::kIdentity) return {z, T(1)};
  const T share = sigmoid(z);
  const T slope = share * (T(1) - share);
  if constexpr (kActivation == GateActivation::kSigmoid) return {share, slope};
  if constexpr (kActivation == GateActivation::kSilu) return {z * share, multiply_add(z, slope, share)};
  if constexpr (kActivation == GateActivation::kTwiceSigmoid) return {T(2) * share, T(2) * slope};
  return {T(0.5) + T(0.5) * share, T(0.5) * slope};
}

/// Calls body.operator()<activation>().
template <class Body>
void dispatch_activation(GateActivation activation, const Body& body) {
  switch (activation) {
    case GateActivation::kSigmoid:
      return body.template operator()<GateActivation::kSigmoid>();
    case GateActivation::kSilu:
      return body.template operator()<GateActivation::kSilu>();
    case GateActivation::kNsSigmoid:
      return body.template operator()<GateActivation::kNsSigmoid>();
    case GateActivation::kTwiceSigmoid:
      return body.template operator()<GateActivation::kTwiceSigmoid>();
    case GateActivation::kIdentity:
      return body.template operator()<GateActivation::kIdentity>();
  }
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
