#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/core/dtype.h"

namespace sluice {

enum class Device : uint8_t {
  kCpu,
  kCuda,
  kNone,  ///< a plan's: an address where nothing is, to tell tensors apart by
};

/// Up to four dimensions, outermost first.
class Shape {
 public:
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> dims) {
    for (int64_t dim : dims) dims_[static_cast<size_t>(rank_++)] = dim;
  }

  constexpr int rank() const { return rank_; }
  constexpr int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  constexpr int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
    return n;
  }
  constexpr bool operator==(const Shape&) const = default;

 private:
  std::array<int64_t, 4> dims_{};
  int rank_ = 0;
};

std::string to_string(const Shape& shape);

/// A non-owning, contiguous, row-major view of an array. A default-made Tensor is empty: `!t`.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Device device = Device::kCpu;
  Shape shape;

  int64_t dim(int i) const { return shape[i]; }
  int64_t count() const { return shape.count(); }
  int64_t bytes() const { return count() * dtype_bytes(dtype); }
  explicit operator bool() const { return shape.rank() > 0; }

  /// Elements as T. Throws on another dtype.
  template <class T>
  T* as() const {
    INVARIANT(dtype == dtype_of<T>(), "expected ", dtype_name(dtype_of<T>()), ", got ", dtype_name(dtype));
    return static_cast<T*>(data);
  }

  /// The same elements under another shape of the same count.
  Tensor reshaped(Shape to) const;
  /// Rows [begin, begin + rows) of the outermost dimension.
  Tensor rows(int64_t begin, int64_t rows) const;
};

/// Throws unless `t` has this dtype and shape; `name` is the argument's name in the contract.
void expect(const char* name, const Tensor& t, DType dtype, const Shape& shape);

}  // namespace sluice
