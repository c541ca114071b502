#define SLUICE_CPU_NAMESPACE simd_test
#include "kernels/cpu/simd.h"

#include <cmath>

#include <gtest/gtest.h>

namespace sluice::cpu::simd_test {
namespace {

TEST(Simd, ExponentialIsExactToAFewRoundings) {
  for (float x = -87.2f; x < 88.2f; x += 0.0037f) {
    const double want = std::exp(static_cast<double>(x));
    ASSERT_NEAR(exponential(x), want, 1e-7 * want) << x;
  }
  EXPECT_EQ(exponential(0.0f), 1);
}

TEST(Simd, ExponentialSaturatesAndKeepsNan) {
  for (float x : {-1e9f, -INFINITY, -100.0f}) {
    EXPECT_GE(exponential(x), 0);
    EXPECT_LT(exponential(x), 2e-38f);
  }
  for (float x : {1e9f, INFINITY, 100.0f}) EXPECT_GT(exponential(x), 1e38f);
  EXPECT_TRUE(std::isnan(exponential(NAN)));
  EXPECT_TRUE(std::isnan(exponential(float_of(-1)))) << "a NaN with every bit set";
}

TEST(Simd, LogarithmIsExactToAFewRoundings) {
  for (float x = 1.2e-38f; x < 1e38f; x *= 1.00137f)
    ASSERT_NEAR(logarithm(x), std::log(x), 2e-7 + 2e-7 * std::abs(std::log(x)));
  EXPECT_EQ(logarithm(1.0f), 0);
}

TEST(Simd, LaneSumAndLargestSeeEveryElement) {
  float x[100];
  for (int n = 0; n <= 100; ++n) {
    for (int i = 0; i < n; ++i) x[i] = static_cast<float>((i * 37) % 101);
    float most = -1, sum = 0;
    for (int i = 0; i < n; ++i) most = std::fmax(most, x[i]), sum += x[i];
    LaneSum<float> lanes;
    lanes.add(n, [&](int64_t i) { return x[i]; });
    EXPECT_EQ(lanes.total(), sum);
    EXPECT_EQ(largest(x, n, -1.0f), most);
  }
}

}  // namespace
}  // namespace sluice::cpu::simd_test
