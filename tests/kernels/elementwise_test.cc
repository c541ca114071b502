#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"

namespace sluice {
namespace {

using reference::test_data;

constexpr int64_t kCounts[] = {0, 1, 7, 33, 4096, 20001};

class Elementwise : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }
  /// The number in the dtype under test.
  double rounded(double value) const { return dtype() == DType::kF32 ? static_cast<float>(value) : value; }
};

TEST_P(Elementwise, AddRoundsTheExactSum) {
  for (int64_t n : kCounts) {
    const TestTensor a = tensor({n}, 1), b = tensor({n}, 2), out(dtype(), {n});
    add(stream(), a, b, out);
    for (size_t i = 0; i < out.values().size() && i < 100; ++i) {
      EXPECT_EQ(out.values()[i], rounded(a.values()[i] + b.values()[i]));
    }
    add(stream(), a, b, b);
    EXPECT_TRUE(b.same_bits(out)) << "out in place of b";
    const TestTensor b_again = tensor({n}, 2);
    add(stream(), a, b_again, a);
    EXPECT_TRUE(a.same_bits(out)) << "out in place of a";
  }
}

TEST_P(Elementwise, FillZeroLeavesOnlyZeros) {
  for (int64_t n : kCounts) {
    const TestTensor x = tensor({n}, 1);
    fill_zero(stream(), x);
    EXPECT_THAT(x.values(), testing::Each(0));
  }
}

TEST(Elementwise, FillZeroOfMoreThanCachesHoldLeavesOnlyZerosToo) {
  // Neither end is where a cache line is.
  const int64_t n = (int64_t{129} << 20) / 4 + 5;
  std::vector<float> values(static_cast<size_t>(n) + 2, 1.0f);
  ThreadPool pool(1);
  for (Isa isa : {Isa::kPortable, best_isa()}) {
    Stream s{Device::kCpu, isa, &pool};
    std::fill(values.begin(), values.end(), 1.0f);
    fill_zero(s, {values.data() + 1, DType::kF32, Device::kCpu, {n}});
    EXPECT_EQ(values.front(), 1);
    EXPECT_EQ(values.back(), 1);
    EXPECT_EQ(std::count(values.begin(), values.end(), 0.0f), n);
  }
}

TEST_P(Elementwise, ScaleMultipliesEveryElement) {
  for (int64_t n : kCounts) {
    const TestTensor x = tensor({n}, 1);
    const std::vector<double> before = x.values();
    scale(stream(), x, 0.375);
    const std::vector<double> after = x.values();
    for (size_t i = 0; i < before.size(); ++i) ASSERT_EQ(after[i], rounded(before[i] * 0.375));
  }
}

TEST_P(Elementwise, ClipBoundsAndItsGradientStopsThere) {
  for (int64_t n : kCounts) {
    const TestTensor x = tensor({n}, 1), d = tensor({n}, 2), out(dtype(), {n}), dx(dtype(), {n});
    const double limit = rounded(0.4);
    clip(stream(), x, 0.4, out);
    clip_backward(stream(), d, x, 0.4, dx);
    const std::vector<double> at = x.values(), clipped = out.values(), of_out = d.values(), of_x = dx.values();
    for (size_t i = 0; i < at.size(); ++i) {
      ASSERT_EQ(clipped[i], std::min(std::max(at[i], -limit), limit));
      ASSERT_EQ(of_x[i], std::abs(at[i]) <= limit ? of_out[i] : 0);
    }
    clip_backward(stream(), d, x, 0.4, d);
    EXPECT_TRUE(d.same_bits(dx)) << "dx in place of dout";
    clip(stream(), x, 0.4, x);
    EXPECT_TRUE(x.same_bits(out)) << "out in place of x";
  }
  const TestTensor nan(dtype(), {1}, {NAN});
  clip(stream(), nan, 1, nan);
  EXPECT_TRUE(std::isnan(nan.values()[0]));
  EXPECT_THROW(clip(stream(), nan, 0, nan), Error);
}

TEST_P(Elementwise, CastKeepsWhatTheOtherDtypeHolds) {
  for (int64_t n : kCounts) {
    const TestTensor x = tensor({n}, 1), narrow(DType::kF32, {n}), wide(DType::kF64, {n});
    cast(stream(), x, narrow);
    cast(stream(), x, wide);
    EXPECT_EQ(wide.values(), x.values());
    std::vector<double> want = x.values();
    for (double& value : want) value = static_cast<float>(value);
    EXPECT_EQ(narrow.values(), want);
  }
}

/// Value of a bf16 pattern.
double bf16_value(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

TEST_P(Elementwise, CastToBf16RoundsToTheNearestAndTiesToEven) {
  // 1 + k/128 are the neighbours in bf16; the ties between them go to an even k.
  const std::vector<double> x = {
      0.0,   -2.5,   1.0 + 0.9 / 256, 1.0 + 1.1 / 256, 1.0 + 1.0 / 256, 1.0 + 3.0 / 256, -1.0 - 1.0 / 256,
      255.9, 3.4e38, 1e-40,           INFINITY};
  const std::vector<double> want = {0.0,  -2.5, 1.0,      1.0 + 1.0 / 128, 1.0,     1.0 + 2.0 / 128,
                                    -1.0, 256,  INFINITY, bf16_value(1),   INFINITY};
  const int64_t n = static_cast<int64_t>(x.size());
  const TestTensor from(dtype(), {n}, x), to(DType::kBF16, {n});
  cast(stream(), from, to);
  const uint16_t* got = static_cast<const uint16_t*>(Tensor(to).data);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(bf16_value(got[i]), want[i]) << x[i];
}

TEST_P(Elementwise, CastToBf16KeepsNan) {
  const TestTensor from(dtype(), {2}, {NAN, -NAN}), to(DType::kBF16, {2});
  cast(stream(), from, to);
  const uint16_t* got = static_cast<const uint16_t*>(Tensor(to).data);
  EXPECT_TRUE(std::isnan(bf16_value(got[0])));
  EXPECT_TRUE(std::isnan(bf16_value(got[1])));
}

TEST_P(Elementwise, RefusesShapesAndDtypesThatDoNotFit) {
  const TestTensor x = tensor({7}, 1), y = tensor({8}, 2), integers(DType::kI32, {7});
  EXPECT_THROW(add(stream(), x, y, x), Error);
  EXPECT_THROW(add(stream(), x, x, y), Error);
  EXPECT_THROW(scale(stream(), integers, 2), Error);
  EXPECT_THROW(cast(stream(), x, y), Error);
  EXPECT_THROW(cast(stream(), x, integers), Error);
  EXPECT_THROW(cast(stream(), integers, x), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Elementwise, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
