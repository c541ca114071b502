#include "kernels/balance.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"

namespace sluice {
namespace {

class Balance : public KernelTest {
 protected:
  static Tensor view(std::vector<int64_t>& counts) {
    return {counts.data(), DType::kI64, Device::kCpu, {static_cast<int64_t>(counts.size())}};
  }
};

TEST_P(Balance, PerfectBalanceGivesOneAndItsGradient) {
  // Eight tokens, four experts, top 2, uniform probabilities.
  std::vector<int64_t> counts = {4, 4, 4, 4};
  const TestTensor prob_sums(DType::kF64, {4}, {2, 2, 2, 2}), gradient(dtype(), {4}), loss(DType::kF64, {1}, {0});
  balance_loss(stream(), view(counts), prob_sums, 1.0 / 8, 0.5, gradient, loss);
  EXPECT_DOUBLE_EQ(loss.values()[0], 1);
  // coef * per_token * experts * share
  EXPECT_EQ(gradient.values(), std::vector<double>(4, 0.5 / 8));
}

TEST_P(Balance, EqualsItsEquationAndAddsToTheLoss) {
  std::vector<int64_t> counts = {5, 0, 1, 2};
  const TestTensor prob_sums(DType::kF64, {4}, {1.5, 0.25, 0.75, 1.5}), gradient(dtype(), {4}),
      loss(DType::kF64, {1}, {10});
  balance_loss(stream(), view(counts), prob_sums, 0.25, 2, gradient, loss);
  const double shares[4] = {5.0 / 8, 0, 1.0 / 8, 2.0 / 8};
  double want = 10;
  std::vector<double> want_gradient;
  for (size_t i = 0; i < 4; ++i) {
    want += 0.25 * 4 * shares[i] * prob_sums.values()[i];
    want_gradient.push_back(2 * 0.25 * 4 * shares[i]);
  }
  EXPECT_NEAR(loss.values()[0], want, 1e-14);
  EXPECT_LE(reference::relative_l2(gradient.values(), want_gradient), tolerance(dtype()));
}

TEST_P(Balance, NoAssignmentsGiveNoLoss) {
  std::vector<int64_t> counts = {0, 0};
  const TestTensor prob_sums(DType::kF64, {2}, {0, 0}), gradient(dtype(), {2}), loss(DType::kF64, {1}, {3});
  balance_loss(stream(), view(counts), prob_sums, 1, 1, gradient, loss);
  EXPECT_EQ(loss.values()[0], 3);
  EXPECT_EQ(gradient.values(), std::vector<double>(2, 0));
}

TEST_P(Balance, CountsAreAddedExactly) {
  std::vector<int64_t> counts = {1, int64_t{1} << 60}, total = {2, 3};
  add_counts(stream(), view(counts), view(total));
  EXPECT_EQ(total, (std::vector<int64_t>{3, (int64_t{1} << 60) + 3}));
}

TEST_P(Balance, RefusesAnotherNumberOfExperts) {
  std::vector<int64_t> counts = {1, 2};
  const TestTensor prob_sums(DType::kF64, {3}), gradient(dtype(), {2}), loss(DType::kF64, {1}, {0});
  EXPECT_THROW(balance_loss(stream(), view(counts), prob_sums, 1, 1, gradient, loss), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Balance, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
