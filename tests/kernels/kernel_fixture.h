#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/stream.h"

namespace sluice {

/// Relative L2 error allowed to a kernel.
inline double tolerance(DType dtype) { return dtype == DType::kF64 ? 1e-12 : 3e-6; }

inline std::vector<Isa> supported_isas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa_supported(isa)) isas.push_back(isa);
  }
  return isas;
}

/// What a kernel test is repeated over.
struct KernelCase {
  Isa isa;
  DType dtype;
  int threads;
};

inline std::vector<KernelCase> kernel_cases() {
  std::vector<KernelCase> cases;
  for (Isa isa : supported_isas()) {
    for (DType dtype : {DType::kF32, DType::kF64}) {
      for (int threads : {1, 3}) cases.push_back({isa, dtype, threads});
    }
  }
  return cases;
}

inline std::ostream& operator<<(std::ostream& out, const KernelCase& c) {
  return out << isa_name(c.isa) << "_" << dtype_name(c.dtype) << "_" << c.threads << "threads";
}

inline std::string kernel_case_name(const testing::TestParamInfo<KernelCase>& info) { return concat(info.param); }

/// A stream of its own threads, and the dtype under test.
class KernelTest : public testing::TestWithParam<KernelCase> {
 protected:
  DType dtype() const { return GetParam().dtype; }
  Stream& stream() { return stream_; }

 private:
  ThreadPool pool_{GetParam().threads};
  Stream stream_{Device::kCpu, GetParam().isa, &pool_};
};

/// Owns the memory of a tensor between guards; writing over one fails the test when the tensor goes.
class TestTensor {
 public:
  TestTensor(DType dtype, Shape shape) : memory_(2 * kGuardBytes + bytes(dtype, shape), kPattern) {
    view_ = {memory_.data() + kGuardBytes, dtype, Device::kCpu, shape};
  }
  TestTensor(DType dtype, Shape shape, const std::vector<double>& values) : TestTensor(dtype, shape) {
    EXPECT_EQ(static_cast<int64_t>(values.size()), view_.count());
    dispatch_float(dtype, [&]<class T>() {
      std::transform(values.begin(), values.end(), view_.as<T>(), [](double value) { return static_cast<T>(value); });
    });
  }
  explicit TestTensor(const std::vector<int32_t>& values)
      : TestTensor(DType::kI32, {static_cast<int64_t>(values.size())}) {
    std::copy(values.begin(), values.end(), view_.as<int32_t>());
  }
  TestTensor(const TestTensor&) = delete;
  TestTensor& operator=(const TestTensor&) = delete;
  ~TestTensor() {
    const auto untouched = [](std::byte b) { return b == kPattern; };
    EXPECT_TRUE(std::all_of(memory_.begin(), memory_.begin() + kGuardBytes, untouched)) << "written before its begin";
    EXPECT_TRUE(std::all_of(memory_.end() - kGuardBytes, memory_.end(), untouched)) << "written past its end";
  }

  operator Tensor() const { return view_; }

  std::vector<double> values() const {
    return dispatch_float(view_.dtype,
                          [&]<class T>() { return std::vector<double>(view_.as<T>(), view_.as<T>() + view_.count()); });
  }
  bool same_bits(const TestTensor& other) const { return memory_ == other.memory_; }

 private:
  static constexpr std::ptrdiff_t kGuardBytes = 256;
  static constexpr std::byte kPattern{0xA5};
  static size_t bytes(DType dtype, Shape shape) { return static_cast<size_t>(shape.count() * dtype_bytes(dtype)); }

  std::vector<std::byte> memory_;
  Tensor view_;
};

}  // namespace sluice
