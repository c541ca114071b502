#include "kernels/swiglu.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/swiglu.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;

const std::vector<Shape> kShapes = {{0, 8}, {1, 1}, {1, 7}, {7, 33}, {33, 64}, {200, 2}};

class Swiglu : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) {
    std::vector<double> values = reference::test_data(shape.count(), seed);
    for (double& value : values) value *= 4;
    return TestTensor(dtype(), shape, values);
  }
};

TEST_P(Swiglu, ForwardEqualsItsEquationWithAndWithoutWeights) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(to_string(shape));
    const size_t width = static_cast<size_t>(shape[1]);
    const TestTensor gu = tensor({shape[0], 2 * shape[1]}, 1), weights = tensor({shape[0]}, 3), y(dtype(), shape);
    swiglu_forward(stream(), gu, {}, y);
    EXPECT_LE(relative_l2(y.values(), reference::swiglu(gu.values(), {}, width)), tolerance(dtype()));
    swiglu_forward(stream(), gu, weights, y);
    EXPECT_LE(relative_l2(y.values(), reference::swiglu(gu.values(), weights.values(), width)), tolerance(dtype()));
  }
}

TEST_P(Swiglu, GradientsEqualTheComplexStep) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(to_string(shape));
    const size_t width = static_cast<size_t>(shape[1]);
    const Shape wide{shape[0], 2 * shape[1]};
    const TestTensor gu = tensor(wide, 1), dy = tensor(shape, 2), weights = tensor({shape[0]}, 3);
    const TestTensor y(dtype(), shape), dgu(dtype(), wide), dweights(dtype(), {shape[0]});
    swiglu_backward(stream(), dy, gu, weights, y, dgu, dweights);

    const auto loss = [&](const std::vector<Complex>& moved_gu, const std::vector<Complex>& moved_weights) {
      return reference::weighted_sum(dy.values(), reference::swiglu(moved_gu, moved_weights, width));
    };
    const auto fixed_gu = reference::as_type<Complex>(gu.values()),
               fixed_weights = reference::as_type<Complex>(weights.values());
    const reference::Directions of_gu(wide.count()), of_weights(shape[0]);
    const auto gu_slopes = of_gu.slopes(gu.values(), [&](const auto& moved) { return loss(moved, fixed_weights); });
    const auto slopes = of_weights.slopes(weights.values(), [&](const auto& moved) { return loss(fixed_gu, moved); });
    EXPECT_LE(relative_l2(of_gu.project(dgu.values()), gu_slopes), tolerance(dtype()));
    EXPECT_LE(relative_l2(of_weights.project(dweights.values()), slopes), tolerance(dtype()));
  }
}

TEST_P(Swiglu, BackwardGivesTheBitsOfForwardAndWorksInPlace) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(to_string(shape));
    const Shape wide{shape[0], 2 * shape[1]};
    const TestTensor gu = tensor(wide, 1), dy = tensor(shape, 2), weights = tensor({shape[0]}, 3);
    const TestTensor y(dtype(), shape), y_forward(dtype(), shape), dgu(dtype(), wide), dweights(dtype(), {shape[0]});
    swiglu_forward(stream(), gu, weights, y_forward);
    swiglu_backward(stream(), dy, gu, weights, y, dgu, dweights);
    EXPECT_TRUE(y.same_bits(y_forward));
    swiglu_backward(stream(), dy, gu, weights, dy, gu, dweights);
    EXPECT_TRUE(gu.same_bits(dgu)) << "dgu in place of gu";
    EXPECT_TRUE(dy.same_bits(y)) << "y in place of dy";
  }
}

TEST_P(Swiglu, WithoutWeightsIsWithWeightsOfOne) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(to_string(shape));
    const Shape wide{shape[0], 2 * shape[1]};
    const TestTensor gu = tensor(wide, 1), dy = tensor(shape, 2), dweights(dtype(), {shape[0]});
    const TestTensor ones(dtype(), {shape[0]}, std::vector<double>(static_cast<size_t>(shape[0]), 1));
    const TestTensor y(dtype(), shape), dgu(dtype(), wide), y_ones(dtype(), shape), dgu_ones(dtype(), wide);
    swiglu_backward(stream(), dy, gu, {}, y, dgu, {});
    swiglu_backward(stream(), dy, gu, ones, y_ones, dgu_ones, dweights);
    EXPECT_TRUE(y.same_bits(y_ones));
    EXPECT_TRUE(dgu.same_bits(dgu_ones));
  }
}

TEST_P(Swiglu, RefusesARowThatIsNotTwoHalvesAndWeightsThatAreNotOneARow) {
  const TestTensor gu = tensor({3, 9}, 1), y(dtype(), {3, 4}), whole = tensor({3, 8}, 1), weights = tensor({4}, 2);
  EXPECT_THROW(swiglu_forward(stream(), gu, {}, y), Error);
  EXPECT_THROW(swiglu_backward(stream(), y, gu, {}, y, gu, {}), Error);
  EXPECT_THROW(swiglu_forward(stream(), whole, weights, y), Error);
  EXPECT_THROW(swiglu_backward(stream(), y, whole, weights, y, whole, weights), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Swiglu, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
