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

TEST_P(Swiglu, ForwardEqualsItsEquation) {
  for (const Shape& shape : kShapes) {
    const TestTensor gu = tensor({shape[0], 2 * shape[1]}, 1), y(dtype(), shape);
    swiglu_forward(stream(), gu, y);
    EXPECT_LE(relative_l2(y.values(), reference::swiglu(gu.values(), static_cast<size_t>(shape[1]))),
              tolerance(dtype()))
        << to_string(shape);
  }
}

TEST_P(Swiglu, GradientEqualsTheComplexStep) {
  for (const Shape& shape : kShapes) {
    const Shape wide{shape[0], 2 * shape[1]};
    const TestTensor gu = tensor(wide, 1), dy = tensor(shape, 2), dgu(dtype(), wide);
    swiglu_backward(stream(), dy, gu, dgu);

    const reference::Directions directions(wide.count());
    const auto slopes = directions.slopes(gu.values(), [&](const std::vector<Complex>& moved) {
      return reference::weighted_sum(dy.values(), reference::swiglu(moved, static_cast<size_t>(shape[1])));
    });
    EXPECT_LE(relative_l2(directions.project(dgu.values()), slopes), tolerance(dtype())) << to_string(shape);

    swiglu_backward(stream(), dy, gu, gu);
    EXPECT_TRUE(gu.same_bits(dgu)) << "dgu in place of gu";
  }
}

TEST_P(Swiglu, RefusesARowThatIsNotTwoHalves) {
  const TestTensor gu = tensor({3, 9}, 1), y(dtype(), {3, 4});
  EXPECT_THROW(swiglu_forward(stream(), gu, y), Error);
  EXPECT_THROW(swiglu_backward(stream(), y, gu, gu), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Swiglu, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
