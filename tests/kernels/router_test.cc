#include "kernels/router.h"

#include <gmock/gmock.h>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/router.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;
using reference::test_data;

struct Size {
  int64_t tokens, experts, top_k;
};
const std::vector<Size> kSizes = {{0, 4, 2}, {1, 1, 1}, {1, 7, 7}, {7, 33, 3}, {33, 8, 2}, {40, 64, 8}, {5, 130, 130}};

/// Everything router_forward writes.
struct Routing {
  Routing(DType dtype, Size n)
      : probs(dtype, {n.tokens, n.experts}),
        lse(dtype, {n.tokens}),
        indices(DType::kI32, {n.tokens, n.top_k}),
        weights(dtype, {n.tokens, n.top_k}),
        counts(DType::kI64, {n.experts}) {}
  std::vector<int32_t> chosen() const {
    const Tensor t = indices;
    return {t.as<int32_t>(), t.as<int32_t>() + t.count()};
  }

  TestTensor probs, lse, indices, weights, counts;
};

class Router : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }
  void forward(Tensor logits, bool normalize, const Routing& r) {
    router_forward(stream(), logits, {}, normalize, r.probs, r.lse, r.indices, r.weights, r.counts);
  }
  RouterGradient gradient(const Routing& r, Tensor dweights, Tensor balance, bool normalize) {
    return {dweights, r.probs, r.lse, r.indices, r.weights, balance, 0.125, normalize};
  }
};

TEST_P(Router, ForwardEqualsItsEquation) {
  for (const Size& n : kSizes) {
    for (bool normalize : {false, true}) {
      SCOPED_TRACE(concat(n.tokens, " tokens, ", n.experts, " experts, top ", n.top_k, " normalize ", normalize));
      const TestTensor logits = tensor({n.tokens, n.experts}, 1);
      const Routing r(dtype(), n);
      forward(logits, normalize, r);

      const size_t experts = static_cast<size_t>(n.experts), top_k = static_cast<size_t>(n.top_k);
      const auto probs = reference::softmax(logits.values(), experts);
      EXPECT_LE(relative_l2(r.probs.values(), probs), tolerance(dtype()));
      EXPECT_EQ(r.chosen(), reference::top_experts(r.probs.values(), experts, top_k));
      EXPECT_LE(
          relative_l2(r.weights.values(), reference::router_weights(probs, r.chosen(), experts, top_k, normalize)),
          tolerance(dtype()));
      std::vector<int64_t> counts(experts);
      for (int32_t expert : r.chosen()) ++counts[static_cast<size_t>(expert)];
      const Tensor got = r.counts;
      EXPECT_EQ(std::vector<int64_t>(got.as<int64_t>(), got.as<int64_t>() + n.experts), counts);
      for (int64_t t = 0; t < n.tokens; ++t) {
        const double want = reference::log_sum_exp(&logits.values()[static_cast<size_t>(t * n.experts)], experts);
        EXPECT_NEAR(r.lse.values()[static_cast<size_t>(t)], want, 4 * tolerance(dtype()));
      }
    }
  }
}

TEST_P(Router, ABiasChangesTheSelectionAndNothingElse) {
  for (const Size& n : kSizes) {
    SCOPED_TRACE(concat(n.tokens, " tokens, ", n.experts, " experts, top ", n.top_k));
    const TestTensor logits = tensor({n.tokens, n.experts}, 1), bias = tensor({n.experts}, 4);
    const Routing plain(dtype(), n), biased(dtype(), n);
    forward(logits, true, plain);
    router_forward(stream(), logits, bias, true, biased.probs, biased.lse, biased.indices, biased.weights,
                   biased.counts);
    EXPECT_TRUE(biased.probs.same_bits(plain.probs));
    EXPECT_TRUE(biased.lse.same_bits(plain.lse));
    const size_t experts = static_cast<size_t>(n.experts), top_k = static_cast<size_t>(n.top_k);
    std::vector<double> scores = biased.probs.values();
    // In the precision of the kernel, so that ties are the same.
    for (size_t i = 0; i < scores.size(); ++i) {
      const double sum = scores[i] + bias.values()[i % experts];
      scores[i] = dtype() == DType::kF32 ? static_cast<double>(static_cast<float>(sum)) : sum;
    }
    EXPECT_EQ(biased.chosen(), reference::top_experts(scores, experts, top_k));
    EXPECT_LE(relative_l2(biased.weights.values(),
                          reference::router_weights(plain.probs.values(), biased.chosen(), experts, top_k, true)),
              tolerance(dtype()));
  }
}

TEST_P(Router, TheSelectionBiasMovesTowardsBalance) {
  const TestTensor counts(DType::kI64, {4}), bias(dtype(), {4}, {0.5, 0, -1, 0});
  const int64_t chosen[] = {10, 5, 0, 5};
  std::copy(chosen, chosen + 4, Tensor(counts).as<int64_t>());
  update_selection_bias(stream(), counts, 0.25, bias);
  EXPECT_EQ(bias.values(), (std::vector<double>{0.25, 0, -0.75, 0}));
}

TEST_P(Router, GradientEqualsTheComplexStep) {
  for (const Size& n : kSizes) {
    for (bool normalize : {false, true}) {
      SCOPED_TRACE(concat(n.tokens, " tokens, ", n.experts, " experts, top ", n.top_k, " normalize ", normalize));
      const TestTensor logits = tensor({n.tokens, n.experts}, 1), dweights = tensor({n.tokens, n.top_k}, 2);
      const TestTensor balance = tensor({n.experts}, 3), dlogits(dtype(), {n.tokens, n.experts});
      const Routing r(dtype(), n);
      forward(logits, normalize, r);
      router_backward(stream(), gradient(r, dweights, balance, normalize), dlogits);

      const size_t experts = static_cast<size_t>(n.experts);
      const auto loss = [&](const std::vector<Complex>& moved) {
        const auto probs = reference::softmax(moved, experts);
        Complex sum = reference::weighted_sum(
            dweights.values(),
            reference::router_weights(probs, r.chosen(), experts, static_cast<size_t>(n.top_k), normalize));
        for (size_t i = 0; i < probs.size(); ++i) sum += balance.values()[i % experts] * probs[i];
        for (size_t row = 0; row < probs.size(); row += experts) {
          const Complex lse = reference::log_sum_exp(&moved[row], experts);
          sum += 0.125 * lse * lse;
        }
        return sum;
      };
      const reference::Directions directions(logits.values().size());
      EXPECT_LE(relative_l2(directions.project(dlogits.values()), directions.slopes(logits.values(), loss)),
                tolerance(dtype()));
      router_backward(stream(), gradient(r, dweights, balance, normalize), r.probs);
      EXPECT_TRUE(r.probs.same_bits(dlogits)) << "dlogits in place of probs";
    }
  }
}

TEST_P(Router, TiesGoToTheLowerExpert) {
  const TestTensor logits(dtype(), {2, 9}, {1, 2, 2, 2, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  const Routing r(dtype(), {2, 9, 4});
  forward(logits, false, r);
  EXPECT_THAT(r.chosen(), testing::ElementsAre(1, 2, 3, 5, 0, 1, 2, 3));
}

TEST_P(Router, ChoosesDifferentExpertsEvenOfNanAndInfinity) {
  constexpr double kNan = NAN, kInfinity = INFINITY;
  const TestTensor logits(dtype(), {3, 9}, {kNan,      0,    1,    2,          3,    4,    5,    6,    7,  //
                                            kInfinity, 0,    1,    -kInfinity, 3,    4,    5,    6,    7,  //
                                            kNan,      kNan, kNan, kNan,       kNan, kNan, kNan, kNan, kNan});
  const Routing r(dtype(), {3, 9, 9});
  forward(logits, true, r);
  for (int64_t t = 0; t < 3; ++t) {
    const auto chosen = r.chosen();
    const std::vector<int32_t> row(chosen.begin() + t * 9, chosen.begin() + (t + 1) * 9);
    EXPECT_THAT(row, testing::UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
  }
}

TEST_P(Router, ProbsMayOverwriteTheLogits) {
  const TestTensor logits = tensor({33, 20}, 1);
  const Routing r(dtype(), {33, 20, 3});
  forward(logits, true, r);
  forward(logits, true, r);
  router_forward(stream(), logits, {}, true, logits, r.lse, r.indices, r.weights, r.counts);
  EXPECT_TRUE(logits.same_bits(r.probs));
}

TEST_P(Router, SumsEqualTheirEquations) {
  for (const Size& n : kSizes) {
    const TestTensor logits = tensor({n.tokens, n.experts}, 1);
    const TestTensor prob_sums(DType::kF64, {n.experts}), moments(DType::kF64, {2});
    const Routing r(dtype(), n);
    forward(logits, false, r);
    router_sums(stream(), r.probs, r.lse, prob_sums, moments);

    std::vector<double> sums(static_cast<size_t>(n.experts));
    double squares = 0, entropy = 0;
    const auto probs = r.probs.values();
    for (size_t i = 0; i < probs.size(); ++i) {
      sums[i % sums.size()] += probs[i];
      entropy -= probs[i] * std::log(probs[i]);
    }
    for (double lse : r.lse.values()) squares += lse * lse;
    EXPECT_LE(relative_l2(prob_sums.values(), sums), 1e-14);
    EXPECT_NEAR(moments.values()[0], squares, 1e-14 * squares);
    EXPECT_NEAR(moments.values()[1], entropy, tolerance(dtype()) * entropy);
  }
}

TEST_P(Router, AnExpertOfProbabilityZeroAddsNoEntropy) {
  const TestTensor probs(dtype(), {1, 3}, {0, 1, 0}), lse(dtype(), {1}, {2});
  const TestTensor prob_sums(DType::kF64, {3}), moments(DType::kF64, {2});
  router_sums(stream(), probs, lse, prob_sums, moments);
  EXPECT_EQ(moments.values()[0], 4);
  EXPECT_EQ(moments.values()[1], 0);
}

TEST_P(Router, RefusesMoreChoicesThanExperts) {
  const TestTensor logits = tensor({3, 4}, 1);
  const Routing r(dtype(), {3, 4, 5});
  EXPECT_THROW(forward(logits, false, r), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Router, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
