#include "kernels/rope.h"

#include <cmath>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/rope.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;
using reference::test_data;

constexpr double kBase = 10000;
constexpr int64_t kMaxPositions = 40;

class Rope : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }
};

struct Tables {
  Tables(DType dtype, int64_t half, const Yarn& yarn = {})
      : cosine(dtype, {kMaxPositions, half}), sine(dtype, {kMaxPositions, half}) {
    rope_tables(kBase, yarn, cosine, sine);
  }
  TestTensor cosine, sine;
};

/// Two documents, one after another.
std::vector<int32_t> positions_of(int64_t tokens) {
  std::vector<int32_t> positions;
  for (int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<int32_t>(t < tokens / 3 ? t : t - tokens / 3));
  return positions;
}

/// From 16 positions to 40, planes between 2 and a quarter of a turn slowed in part; and as trained.
const std::vector<reference::Stretch> kStretches = {{}, {2.5, 16, 2, 0.25}};
Yarn yarn_of(const reference::Stretch& by) { return {by.factor, by.original_length, by.fast, by.slow}; }

const std::vector<Shape> kShapes = {{1, 1, 2}, {7, 3, 6}, {33, 2, 32}, {33, 8, 64}};

TEST_P(Rope, ForwardEqualsItsEquation) {
  for (const Shape& shape : kShapes) {
    const TestTensor x = tensor(shape, 1), positions(positions_of(shape[0])), y(dtype(), shape);
    for (const reference::Stretch& by : kStretches) {
      const Tables tables(dtype(), shape[2] / 2, yarn_of(by));
      rope_forward(stream(), x, positions, tables.cosine, tables.sine, y);
      const auto want = reference::rope(x.values(), positions_of(shape[0]), kBase, static_cast<size_t>(shape[1]),
                                        static_cast<size_t>(shape[2]), by);
      EXPECT_LE(relative_l2(y.values(), want), tolerance(dtype())) << to_string(shape) << " by " << by.factor;
    }
  }
}

TEST_P(Rope, GradientEqualsTheComplexStep) {
  for (const Shape& shape : kShapes) {
    const TestTensor dy = tensor(shape, 3), positions(positions_of(shape[0])), dx(dtype(), shape);
    for (const reference::Stretch& by : kStretches) {
      const Tables tables(dtype(), shape[2] / 2, yarn_of(by));
      rope_backward(stream(), dy, positions, tables.cosine, tables.sine, dx);
      const reference::Directions of_x(shape.count());
      const auto slopes = of_x.slopes(test_data(shape.count(), 1), [&](const std::vector<Complex>& moved) {
        return reference::weighted_sum(
            dy.values(), reference::rope(moved, positions_of(shape[0]), kBase, static_cast<size_t>(shape[1]),
                                         static_cast<size_t>(shape[2]), by));
      });
      EXPECT_LE(relative_l2(of_x.project(dx.values()), slopes), tolerance(dtype()))
          << to_string(shape) << " by " << by.factor;
    }
  }
}

TEST_P(Rope, MayOverwriteItsInput) {
  const TestTensor x = tensor({33, 2, 6}, 1), positions(positions_of(33)), y(dtype(), {33, 2, 6});
  const Tables tables(dtype(), 3);
  rope_forward(stream(), x, positions, tables.cosine, tables.sine, y);
  rope_forward(stream(), x, positions, tables.cosine, tables.sine, x);
  EXPECT_TRUE(x.same_bits(y));
  rope_backward(stream(), y, positions, tables.cosine, tables.sine, y);
  EXPECT_LE(relative_l2(y.values(), test_data(33 * 12, 1)), tolerance(dtype())) << "the opposite rotation";
}

TEST_P(Rope, RefusesPositionsOutsideTheTableAndShapesThatDoNotFit) {
  const TestTensor x = tensor({2, 1, 4}, 1), y(dtype(), {2, 1, 4});
  const TestTensor below({0, -1}), above({0, kMaxPositions}), fine({0, 1});
  const Tables tables(dtype(), 2), narrow(dtype(), 1);
  EXPECT_THROW(rope_forward(stream(), x, below, tables.cosine, tables.sine, y), Error);
  EXPECT_THROW(rope_forward(stream(), x, above, tables.cosine, tables.sine, y), Error);
  EXPECT_THROW(rope_backward(stream(), x, fine, narrow.cosine, narrow.sine, y), Error);
}

TEST(Yarn, SlowsThePlanesThatTurnSeldomAndScalesQueriesAndKeys) {
  // Of a model with heads of 128 and base 1e6, from 32 768 positions to four times as many.
  const Yarn yarn{4, 32768};
  const std::vector<double> trained = rope_frequencies(1e6, 128), stretched = rope_frequencies(1e6, 128, yarn);
  ASSERT_EQ(stretched.size(), 64u);
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_NEAR(trained[i], std::pow(1e6, -static_cast<double>(i) / 64), 1e-16);
    const double slowed = i <= 23 ? 0 : i >= 40 ? 1 : (static_cast<double>(i) - 23) / (40 - 23);
    EXPECT_NEAR(stretched[i] / trained[i], 1 - slowed + slowed / 4, 1e-15) << i;
  }
  EXPECT_NEAR(rope_amplitude(yarn), 1.13863, 5e-6);
  EXPECT_EQ(rope_amplitude({}), 1);
  EXPECT_EQ(rope_frequencies(1e6, 128, Yarn{1, 32768}), trained) << "a factor of 1 changes nothing";
}

INSTANTIATE_TEST_SUITE_P(Cpu, Rope, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
