#pragma once

#include <cmath>
#include <complex>

namespace sluice::reference {

template <class T>
T sigmoid(T z) {
  return 1.0 / (1.0 + std::exp(-z));
}

template <class T>
T silu(T z) {
  return z * sigmoid(z);
}

/// Not below one half.
template <class T>
T ns_sigmoid(T z) {
  return 0.5 + 0.5 * sigmoid(z);
}

template <class T>
T identity(T z) {
  return z;
}

}  // namespace sluice::reference
