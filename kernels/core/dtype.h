#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {

enum class DType : uint8_t { kF32, kF64, kBF16, kI32, kI64, kU8 };

constexpr int64_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kBF16; }

constexpr const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "f64";
    case DType::kI64:
      return "i64";
    case DType::kF32:
      return "f32";
    case DType::kI32:
      return "i32";
    case DType::kBF16:
      return "bf16";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

/// What is kept of numbers of a dtype where its few digits would not do: sums, norms, gradients, probabilities.
constexpr DType exact_dtype(DType dtype) { return dtype == DType::kBF16 ? DType::kF32 : dtype; }

/// The DType of a C++ element type.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kI64;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::kU8;
}

/// Calls `body.template operator()<T>()` with T the C++ type of a floating dtype the CPU computes in (f32, f64).
template <class Body>
decltype(auto) dispatch_float(DType dtype, Body&& body) {
  INVARIANT(dtype == DType::kF32 || dtype == DType::kF64, "expected f32 or f64, got ", dtype_name(dtype));
  if (dtype == DType::kF32) return std::forward<Body>(body).template operator()<float>();
  return std::forward<Body>(body).template operator()<double>();
}

}  // namespace sluice
