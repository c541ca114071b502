#include "kernels/reduce.h"

#include <cmath>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"

namespace sluice {
namespace {

using reference::test_data;

// Around a block of sum_squares, and many of them.
constexpr int64_t kCounts[] = {0, 1, 7, 33, 4095, 4096, 4097, 100003};

class Reduce : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }
};

TEST_P(Reduce, SumSquaresEqualsItsEquation) {
  for (int64_t n : kCounts) {
    const TestTensor x = tensor({n}, 1), out(DType::kF64, {1});
    sum_squares(stream(), x, out);
    long double want = 0;
    for (double value : x.values()) want += static_cast<long double>(value) * value;
    EXPECT_NEAR(out.values()[0], static_cast<double>(want), 1e-14 * static_cast<double>(want));
  }
}

TEST_P(Reduce, SumSquaresHasTheSameBitsForAnyNumberOfThreads) {
  ThreadPool one(1);
  Stream single{Device::kCpu, GetParam().isa, &one};
  for (int64_t n : kCounts) {
    const TestTensor x = tensor({n}, 1), out(DType::kF64, {1}), out_single(DType::kF64, {1});
    sum_squares(stream(), x, out);
    sum_squares(single, x, out_single);
    EXPECT_TRUE(out.same_bits(out_single)) << n;
  }
}

TEST_P(Reduce, SumAddsInIndexOrder) {
  const TestTensor x(DType::kF64, {4}, {1, 1e20, -1e20, 0.5}), out(DType::kF64, {1});
  sum(stream(), x, out);
  EXPECT_EQ(out.values()[0], 0.5);
}

TEST_P(Reduce, MaxAbsFindsTheLargestMagnitude) {
  for (int64_t n : kCounts) {
    const TestTensor x = tensor({n}, 1), out(DType::kF64, {1});
    double want = 0;
    for (double value : x.values()) want = std::max(want, std::abs(value));
    max_abs(stream(), x, out);
    EXPECT_EQ(out.values()[0], want);
  }
}

TEST_P(Reduce, MaxAbsSeesNanAndInfinityAnywhere) {
  for (size_t at : {0, 100, 9999}) {
    std::vector<double> values = test_data(10000, 1);
    const TestTensor out(DType::kF64, {1});
    values[at] = -INFINITY;
    max_abs(stream(), TestTensor(dtype(), {10000}, values), out);
    EXPECT_EQ(out.values()[0], INFINITY);
    values[at] = NAN;
    max_abs(stream(), TestTensor(dtype(), {10000}, values), out);
    EXPECT_TRUE(std::isnan(out.values()[0]));
  }
}

TEST_P(Reduce, RefusesAnOutputThatIsNotOneF64) {
  const TestTensor x = tensor({7}, 1), narrow(DType::kF32, {1}), two(DType::kF64, {2});
  EXPECT_THROW(sum_squares(stream(), x, narrow), Error);
  EXPECT_THROW(max_abs(stream(), x, two), Error);
  EXPECT_THROW(sum(stream(), narrow, TestTensor(DType::kF64, {1})), Error);
}

TEST_P(Reduce, ColumnsAreRaisedToTheirLargest) {
  for (int64_t columns : {1, 3, 32}) {
    const TestTensor x = tensor({7, columns}, 1), out(DType::kF64, {columns}, std::vector<double>(columns, 0.25));
    raise_to_column_maxima(stream(), x, out);
    raise_to_column_maxima(stream(), tensor({0, columns}, 1), out);
    const std::vector<double> values = x.values(), got = out.values();
    for (int64_t column = 0; column < columns; ++column) {
      double want = 0.25;
      for (int64_t row = 0; row < 7; ++row) want = std::max(want, values[static_cast<size_t>(row * columns + column)]);
      EXPECT_EQ(got[static_cast<size_t>(column)], want);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Reduce, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
