#include "kernels/bias.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"

namespace sluice {
namespace {

constexpr Shape kShapes[] = {{0, 3}, {1, 1}, {7, 33}, {100, 64}, {65, 130}};

class Bias : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) {
    return TestTensor(dtype(), shape, reference::test_data(shape.count(), seed));
  }
};

TEST_P(Bias, IsInEveryRowOrAddedToIt) {
  for (const Shape& shape : kShapes) {
    const TestTensor bias = tensor({shape[1]}, 1), y = tensor(shape, 2), alone(dtype(), shape);
    std::vector<double> want, sums;
    const std::vector<double> row = bias.values(), before = y.values();
    for (size_t i = 0; i < before.size(); ++i) {
      want.push_back(row[i % row.size()]);
      sums.push_back(before[i] + want.back());
    }
    bias_forward(stream(), bias, alone, false);
    EXPECT_EQ(alone.values(), want);
    bias_forward(stream(), bias, y, true);
    EXPECT_LE(reference::relative_l2(y.values(), sums), tolerance(dtype()));
  }
}

TEST_P(Bias, GradientAddsTheSumOfRows) {
  for (const Shape& shape : kShapes) {
    const TestTensor dy = tensor(shape, 1), dbias = tensor({shape[1]}, 2);
    std::vector<double> want = dbias.values();
    const std::vector<double> rows = dy.values();
    for (size_t i = 0; i < rows.size(); ++i) want[i % want.size()] += rows[i];
    bias_backward(stream(), dy, dbias);
    EXPECT_LE(reference::relative_l2(dbias.values(), want), tolerance(dtype()));
  }
}

TEST_P(Bias, RefusesAnotherWidth) {
  const TestTensor bias = tensor({3}, 1), y = tensor({2, 4}, 2);
  EXPECT_THROW(bias_forward(stream(), bias, y, true), Error);
  EXPECT_THROW(bias_backward(stream(), y, bias), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Bias, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
