#include "kernels/rms_norm.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/rms_norm.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;
using reference::test_data;

// Large enough to be seen: where a row is one number, the gradient is all eps.
constexpr double kEps = 0.1;

class RmsNorm : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }
};

const std::vector<Shape> kShapes = {{0, 8}, {1, 1}, {1, 7}, {7, 33}, {33, 64}, {200, 2}, {131, 100}};

TEST_P(RmsNorm, ForwardEqualsItsEquation) {
  for (const Shape& shape : kShapes) {
    const TestTensor x = tensor(shape, 1), w = tensor({shape[1]}, 2);
    const TestTensor y(dtype(), shape), rstd(dtype(), {shape[0]});
    rms_norm_forward(stream(), x, w, kEps, y, rstd);
    EXPECT_LE(relative_l2(y.values(), reference::rms_norm(x.values(), w.values(), kEps)), tolerance(dtype()))
        << to_string(shape);
  }
}

TEST_P(RmsNorm, ForwardMayOverwriteItsInput) {
  const TestTensor x = tensor({33, 20}, 1), w = tensor({20}, 2), y(dtype(), {33, 20}), rstd(dtype(), {33});
  rms_norm_forward(stream(), x, w, kEps, y, rstd);
  rms_norm_forward(stream(), x, w, kEps, x, rstd);
  EXPECT_TRUE(x.same_bits(y));
}

TEST_P(RmsNorm, GradientsEqualTheComplexStep) {
  for (const Shape& shape : kShapes) {
    const TestTensor x = tensor(shape, 1), w = tensor({shape[1]}, 2), dy = tensor(shape, 3);
    const TestTensor y(dtype(), shape), rstd(dtype(), {shape[0]}), dx(dtype(), shape);
    const TestTensor dw(dtype(), {shape[1]}, std::vector<double>(static_cast<size_t>(shape[1])));
    rms_norm_forward(stream(), x, w, kEps, y, rstd);
    rms_norm_backward(stream(), dy, x, w, rstd, dx, dw);

    const auto loss = [&](const std::vector<Complex>& x_moved, const std::vector<Complex>& w_moved) {
      return reference::weighted_sum(dy.values(), reference::rms_norm(x_moved, w_moved, kEps));
    };
    const auto x_constant = reference::as_type<Complex>(x.values()),
               w_constant = reference::as_type<Complex>(w.values());
    const reference::Directions of_x(shape.count()), of_w(shape[1]);
    const auto x_slopes = of_x.slopes(x.values(), [&](const auto& moved) { return loss(moved, w_constant); });
    const auto w_slopes = of_w.slopes(w.values(), [&](const auto& moved) { return loss(x_constant, moved); });
    EXPECT_LE(relative_l2(of_x.project(dx.values()), x_slopes), tolerance(dtype())) << to_string(shape);
    EXPECT_LE(relative_l2(of_w.project(dw.values()), w_slopes), tolerance(dtype())) << to_string(shape);
  }
}

TEST_P(RmsNorm, BackwardAddsToTheWeightGradientAndOnRequestToTheInputGradient) {
  const TestTensor x = tensor({33, 20}, 1), w = tensor({20}, 2), dy = tensor({33, 20}, 3);
  const TestTensor y(dtype(), {33, 20}), rstd(dtype(), {33}), dx(dtype(), {33, 20});
  const TestTensor dw(dtype(), {20}, std::vector<double>(20));
  const TestTensor dx_sum = tensor({33, 20}, 4), dw_sum = tensor({20}, 5);
  std::vector<double> dx_want = dx_sum.values(), dw_want = dw_sum.values();
  rms_norm_forward(stream(), x, w, kEps, y, rstd);
  rms_norm_backward(stream(), dy, x, w, rstd, dx, dw);
  rms_norm_backward(stream(), dy, x, w, rstd, dx_sum, dw_sum, true);
  for (size_t i = 0; i < dx_want.size(); ++i) dx_want[i] += dx.values()[i];
  for (size_t i = 0; i < dw_want.size(); ++i) dw_want[i] += dw.values()[i];
  EXPECT_LE(relative_l2(dx_sum.values(), dx_want), tolerance(dtype()));
  EXPECT_LE(relative_l2(dw_sum.values(), dw_want), tolerance(dtype()));

  rms_norm_backward(stream(), dy, x, w, rstd, dy, dw);
  EXPECT_TRUE(dy.same_bits(dx)) << "dx in place of dy";
}

TEST_P(RmsNorm, RepeatsToTheLastBit) {
  const TestTensor x = tensor({1000, 32}, 1), w = tensor({32}, 2), dy = tensor({1000, 32}, 3);
  const TestTensor y(dtype(), {1000, 32}), rstd(dtype(), {1000}), dx(dtype(), {1000, 32});
  const TestTensor first(dtype(), {32}, std::vector<double>(32)), second(dtype(), {32}, std::vector<double>(32));
  rms_norm_forward(stream(), x, w, kEps, y, rstd);
  rms_norm_backward(stream(), dy, x, w, rstd, dx, first);
  rms_norm_backward(stream(), dy, x, w, rstd, dx, second);
  EXPECT_TRUE(first.same_bits(second));
}

TEST_P(RmsNorm, RefusesShapesThatDoNotFit) {
  const TestTensor x = tensor({3, 4}, 1), w = tensor({5}, 2), y(dtype(), {3, 4}), rstd(dtype(), {3});
  EXPECT_THROW(rms_norm_forward(stream(), x, w, kEps, y, rstd), Error);
  EXPECT_THROW(rms_norm_forward(stream(), x, x, kEps, y, rstd), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, RmsNorm, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
