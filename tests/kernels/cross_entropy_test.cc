#include "kernels/cross_entropy.h"

#include <memory>

#include <gmock/gmock.h>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/cross_entropy.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;

constexpr double kScale = 0.25;
const std::vector<Shape> kShapes = {{0, 8}, {1, 2}, {1, 7}, {7, 33}, {33, 100}, {3, 4099}};

class CrossEntropy : public KernelTest {
 protected:
  TestTensor logits(Shape shape) {
    std::vector<double> values = reference::test_data(shape.count(), 1);
    for (double& value : values) value *= 2;
    return TestTensor(dtype(), shape, values);
  }
  /// Every fifth row is not a target.
  static std::vector<int32_t> targets(Shape shape) {
    std::vector<int32_t> result;
    for (int64_t t = 0; t < shape[0]; ++t) result.push_back(static_cast<int32_t>(t % 5 == 4 ? -1 : t * 7 % shape[1]));
    return result;
  }
};

TEST_P(CrossEntropy, LossEqualsItsEquation) {
  for (const Shape& shape : kShapes) {
    const TestTensor x = logits(shape), before = logits(shape), t(targets(shape)), losses(DType::kF64, {shape[0]});
    cross_entropy(stream(), x, t, 0, losses);
    const auto want = reference::cross_entropy(x.values(), targets(shape), static_cast<size_t>(shape[1]));
    EXPECT_LE(relative_l2(losses.values(), want), tolerance(dtype())) << to_string(shape);
    EXPECT_TRUE(x.same_bits(before)) << "logits changed without a gradient";
  }
}

TEST_P(CrossEntropy, GradientEqualsTheComplexStep) {
  for (const Shape& shape : kShapes) {
    const TestTensor x = logits(shape), start = logits(shape), t(targets(shape)), losses(DType::kF64, {shape[0]});
    cross_entropy(stream(), x, t, kScale, losses);
    const reference::Directions directions(shape.count());
    const auto slopes = directions.slopes(start.values(), [&](const std::vector<Complex>& moved) {
      Complex sum = 0;
      for (Complex loss : reference::cross_entropy(moved, targets(shape), static_cast<size_t>(shape[1]))) sum += loss;
      return kScale * sum;
    });
    EXPECT_LE(relative_l2(directions.project(x.values()), slopes), tolerance(dtype())) << to_string(shape);
  }
}

TEST_P(CrossEntropy, AVocabularyInPartsGivesTheSame) {
  for (const Shape& shape : kShapes) {
    for (const int64_t parts : {1, 2, 3}) {
      if (shape[1] < parts) continue;
      SCOPED_TRACE(concat(to_string(shape), " in ", parts, " parts"));
      const TestTensor whole = logits(shape), t(targets(shape)), losses(DType::kF64, {shape[0]});
      const std::vector<double> x = whole.values();
      cross_entropy(stream(), whole, t, kScale, losses);

      const std::vector<double> gradient = whole.values();
      const TestTensor stats(DType::kF64, {parts, shape[0], 3});
      std::vector<std::unique_ptr<TestTensor>> columns;
      std::vector<int64_t> begins;
      for (int64_t p = 0; p < parts; ++p) {
        const int64_t begin = shape[1] * p / parts, width = shape[1] * (p + 1) / parts - begin;
        std::vector<double> own;
        for (int64_t i = 0; i < shape[0] * width; ++i) {
          own.push_back(x[static_cast<size_t>(i / width * shape[1] + begin + i % width)]);
        }
        columns.push_back(std::make_unique<TestTensor>(dtype(), Shape{shape[0], width}, own));
        begins.push_back(begin);
        cross_entropy_part(stream(), *columns.back(), t, {begin, shape[1]}, true,
                           Tensor(stats).rows(p, 1).reshaped({shape[0], 3}));
      }
      for (int64_t p = 0; p < parts; ++p) {
        const size_t i = static_cast<size_t>(p);
        const TestTensor again(DType::kF64, {shape[0]});
        cross_entropy_combine(stream(), *columns[i], t, {begins[i], shape[1]}, stats, p, kScale, again);
        const int64_t width = Tensor(*columns[i]).dim(1);
        std::vector<double> want;
        for (int64_t j = 0; j < shape[0] * width; ++j) {
          want.push_back(gradient[static_cast<size_t>(j / width * shape[1] + begins[i] + j % width)]);
        }
        EXPECT_LE(relative_l2(columns[i]->values(), want), tolerance(dtype()));
        EXPECT_LE(relative_l2(again.values(), losses.values()), tolerance(dtype()));
        const bool same = columns[i]->same_bits(whole) && again.same_bits(losses);
        EXPECT_TRUE(same || parts > 1);
      }
    }
  }
}

TEST_P(CrossEntropy, RowsWithoutATargetHaveNoLossAndNoGradient) {
  const TestTensor x = logits({2, 33}), t(std::vector<int32_t>{-1, -1}), losses(DType::kF64, {2});
  cross_entropy(stream(), x, t, 1, losses);
  EXPECT_THAT(losses.values(), testing::Each(0));
  EXPECT_THAT(x.values(), testing::Each(0));
}

TEST_P(CrossEntropy, IsExactFarFromZeroAndPassesNanOn) {
  const TestTensor x(dtype(), {3, 3}, {1000, 1000, -1000, -5000, -5000, -9000, 0, NAN, 0});
  const TestTensor t(std::vector<int32_t>{0, 1, 2}), losses(DType::kF64, {3});
  cross_entropy(stream(), x, t, 1, losses);
  EXPECT_NEAR(losses.values()[0], std::log(2.0), 1e-7);
  EXPECT_NEAR(losses.values()[1], std::log(2.0), 1e-7);
  EXPECT_TRUE(std::isnan(losses.values()[2]));
}

TEST_P(CrossEntropy, RepeatsToTheLastBit) {
  const TestTensor first = logits({33, 1001}), second = logits({33, 1001}), t(targets({33, 1001}));
  const TestTensor losses(DType::kF64, {33}), losses_again(DType::kF64, {33});
  cross_entropy(stream(), first, t, kScale, losses);
  cross_entropy(stream(), second, t, kScale, losses_again);
  EXPECT_TRUE(first.same_bits(second));
  EXPECT_TRUE(losses.same_bits(losses_again));
}

TEST_P(CrossEntropy, NamesATargetOutsideTheVocabulary) {
  const TestTensor x = logits({1, 7}), losses(DType::kF64, {1});
  for (int32_t bad : {-2, 7}) {
    const TestTensor t(std::vector<int32_t>{bad});
    try {
      cross_entropy(stream(), x, t, 0, losses);
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(concat("target ", bad, " of row 0")));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, CrossEntropy, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
