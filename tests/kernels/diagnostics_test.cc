#include "kernels/diagnostics.h"

#include <cmath>
#include <numeric>

#include <gmock/gmock.h>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/activations.h"
#include "tests/reference/attention.h"
#include "tests/reference/complex_step.h"

namespace sluice {
namespace {

using reference::test_data;

class Diagnostics : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) {
    std::vector<double> values = test_data(shape.count(), seed);
    for (double& value : values) value *= 3;
    return TestTensor(dtype(), shape, values);
  }
  double close() const { return dtype() == DType::kF64 ? 1e-12 : 1e-5; }
};

/// Three documents of 7, 1 and 33 tokens, four query heads on two key heads.
struct Documents {
  const std::vector<int32_t> offsets = {0, 7, 8, 41};
  std::vector<int32_t> positions;
  static constexpr int64_t kTokens = 41, kHeads = 4, kKeyHeads = 2, kWidth = 6;

  Documents() {
    for (size_t d = 0; d + 1 < offsets.size(); ++d) {
      for (int32_t i = offsets[d]; i < offsets[d + 1]; ++i) positions.push_back(i - offsets[d]);
    }
  }
};

TEST_P(Diagnostics, FirstKeyAttentionIsThatOfTheProbabilities) {
  const Documents documents;
  const TestTensor q = tensor({41, 4, 6}, 1), k = tensor({41, 2, 6}, 2), v = tensor({41, 2, 6}, 3);
  const TestTensor offsets(documents.offsets), positions(documents.positions);
  const TestTensor out(dtype(), {41, 4, 6}), lse(dtype(), {41, 4}), largest(dtype(), {41, 4});
  const AttentionInput in{q, k, v, offsets, offsets, positions, 0.4};
  attention_forward(stream(), in, out, lse, largest);
  const TestTensor out_alone(dtype(), {41, 4, 6}), lse_alone(dtype(), {41, 4});
  attention_forward(stream(), in, out_alone, lse_alone);
  EXPECT_TRUE(out.same_bits(out_alone) && lse.same_bits(lse_alone)) << "the largest logit changes the rest";

  const std::vector<double> queries = q.values(), keys = k.values(), most = largest.values();
  struct Choice {
    int64_t every, skip, span;
  };
  for (const auto& [every, skip, span] : {Choice{1, 0, 6}, {1, 3, 5}, {1, 0, 20}, {1, 0, 64}, {3, 0, 6}, {5, 2, 20}}) {
    const TestTensor sums(DType::kF64, {4, kFirstKeySums}, std::vector<double>(4 * kFirstKeySums, 1.0));
    first_key_attention(stream(), in, lse, every, skip, span, sums);
    const std::vector<double> got = sums.values();
    for (int64_t head = 0; head < 4; ++head) {
      std::vector<double> want(kFirstKeySums, 1.0);  // what was there before
      for (int64_t query = 0; query < 41; ++query) {
        const int32_t position = documents.positions[static_cast<size_t>(query)];
        std::vector<double> logits;
        for (int64_t key = query - position; key <= query; ++key) {
          const auto a = queries.begin() + (query * 4 + head) * 6, b = keys.begin() + (key * 2 + head / 2) * 6;
          logits.push_back(0.4 * std::inner_product(a, a + 6, b, 0.0));
        }
        EXPECT_NEAR(most[static_cast<size_t>(query * 4 + head)], *std::max_element(logits.begin(), logits.end()),
                    10 * close());
        double sum = 0;
        for (double logit : logits) sum += std::exp(logit);
        const double probability = std::exp(logits[0]) / sum;
        if (query % every != 0) continue;
        if (position >= skip) {
          want[kFirstKeyTotal] += probability;
          want[kFirstKeyUniform] += 1.0 / (position + 1);
          want[kFirstKeyQueries] += 1;
        }
        const int64_t length = query < 7 ? 7 : query < 8 ? 1 : 33;
        if (length > span && position >= 1 && position <= span) {
          want[kSinkTotal] += probability;
          want[kSinkQueries] += 1;
        }
      }
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_NEAR(got[static_cast<size_t>(head) * want.size() + i], want[i], 41 * close()) << i;
      }
    }
  }
}

TEST_P(Diagnostics, AttentionMapHoldsTheProbabilities) {
  const TestTensor q = tensor({41, 4, 6}, 1), k = tensor({41, 2, 6}, 2), v = tensor({41, 2, 6}, 3);
  const Documents documents;
  const TestTensor offsets(documents.offsets), positions(documents.positions);
  const TestTensor out(dtype(), {41, 4, 6}), lse(dtype(), {41, 4});
  const AttentionInput in{q, k, v, offsets, offsets, positions, 0.4};
  attention_forward(stream(), in, out, lse);
  constexpr int64_t kPositions = 9;
  const TestTensor map(DType::kF64, {kPositions, kPositions}, std::vector<double>(kPositions * kPositions, 1.0));
  const TestTensor rows(DType::kF64, {kPositions}, std::vector<double>(kPositions, 1.0));
  attention_map(stream(), in, lse, map, rows);

  std::vector<double> want(kPositions * kPositions, 1.0), want_rows(kPositions, 1.0);
  const std::vector<double> queries = q.values(), keys = k.values();
  for (int64_t query = 0; query < 41; ++query) {
    const int64_t position = documents.positions[static_cast<size_t>(query)];
    if (position >= kPositions) continue;
    for (int64_t head = 0; head < 4; ++head) {
      std::vector<double> shares;
      for (int64_t key = query - position; key <= query; ++key) {
        const auto a = queries.begin() + (query * 4 + head) * 6, b = keys.begin() + (key * 2 + head / 2) * 6;
        shares.push_back(std::exp(0.4 * std::inner_product(a, a + 6, b, 0.0)));
      }
      const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
      for (size_t j = 0; j < shares.size(); ++j)
        want[static_cast<size_t>(position * kPositions) + j] += shares[j] / sum;
      want_rows[static_cast<size_t>(position)] += 1;
    }
  }
  EXPECT_THAT(map.values(), testing::Pointwise(testing::DoubleNear(41 * close()), want));
  EXPECT_EQ(rows.values(), want_rows);
}

TEST_P(Diagnostics, ScoreSumsCountScoresAndTheirBins) {
  const std::vector<double> logits = {-30, -0.25, 0, 0.05, 0.099, 0.1, 0.5, 0.96, 1, 1.5, 30};
  const TestTensor z(dtype(), {11}, logits);
  const TestTensor sums(DType::kF64, {kScoreSums}, std::vector<double>(static_cast<size_t>(kScoreSums)));
  const TestTensor extremes(DType::kF64, {2}, {-HUGE_VAL, -HUGE_VAL});
  score_sums(stream(), GateActivation::kIdentity, z, 1, {-1, 1}, sums, extremes);
  const std::vector<double> got = sums.values();
  EXPECT_EQ(got[kScoreCount], 11);
  EXPECT_NEAR(got[kScoreTotal], std::accumulate(logits.begin(), logits.end(), 0.0), 1e-5);
  EXPECT_EQ(got[kScoresBelowHalf], 6);
  EXPECT_EQ(got[kScoreHistogram], 1) << "what is below -1";
  EXPECT_EQ(got[kScoreHistogram + kScoreBins * 3 / 8], 1) << "-0.25";
  EXPECT_EQ(got[kScoreHistogram + kScoreBins - 1], 4) << "from 0.95, and what is above 1";
  EXPECT_EQ(std::accumulate(got.begin() + kScoreHistogram, got.end(), 0.0), 11);
  EXPECT_THAT(extremes.values(), testing::ElementsAre(30, 30));
}

TEST_P(Diagnostics, ScoreSumsOfEveryActivation) {
  const TestTensor z = tensor({1000}, 5);
  const auto total = [&](GateActivation activation) {
    const TestTensor sums(DType::kF64, {kScoreSums}, std::vector<double>(static_cast<size_t>(kScoreSums)));
    const TestTensor extremes(DType::kF64, {2}, {-HUGE_VAL, -HUGE_VAL});
    score_sums(stream(), activation, z, 1, score_range(activation), sums, extremes);
    return sums.values()[kScoreTotal];
  };
  double sigmoid = 0, silu = 0, identity = 0;
  for (double value : z.values()) {
    sigmoid += reference::sigmoid(value);
    silu += reference::silu(value);
    identity += value;
  }
  const double near = 1000 * close();
  EXPECT_NEAR(total(GateActivation::kSigmoid), sigmoid, near);
  EXPECT_NEAR(total(GateActivation::kSilu), silu, near);
  EXPECT_NEAR(total(GateActivation::kNsSigmoid), 500 + 0.5 * sigmoid, near);
  EXPECT_NEAR(total(GateActivation::kTwiceSigmoid), 2 * sigmoid, near);
  EXPECT_NEAR(total(GateActivation::kIdentity), identity, near);
}

TEST_P(Diagnostics, HistogramsReachAsFarAsTheirScores) {
  for (const GateActivation activation :
       {GateActivation::kSigmoid, GateActivation::kNsSigmoid, GateActivation::kTwiceSigmoid}) {
    const ScoreRange range = score_range(activation);
    const TestTensor z(dtype(), {2}, {-50, 50}), extremes(DType::kF64, {2}, {-HUGE_VAL, -HUGE_VAL});
    const TestTensor sums(DType::kF64, {kScoreSums}, std::vector<double>(static_cast<size_t>(kScoreSums)));
    score_sums(stream(), activation, z, 1, range, sums, extremes);
    EXPECT_NEAR(extremes.values()[0], range.highest, 1e-12);
    EXPECT_NEAR(-extremes.values()[1], activation == GateActivation::kNsSigmoid ? 0.5 : range.lowest, 1e-12);
  }
}

TEST_P(Diagnostics, ScoresOfSomeRowsAreThoseOfTheRows) {
  const TestTensor z = tensor({13, 300}, 7);
  std::vector<double> some;
  for (int64_t row = 0; row < 13; row += 4) {
    const std::vector<double> all = z.values();
    some.insert(some.end(), all.begin() + row * 300, all.begin() + (row + 1) * 300);
  }
  const TestTensor alone(dtype(), {4, 300}, some);
  const auto sums_of = [&](Tensor logits, int64_t every) {
    const TestTensor sums(DType::kF64, {kScoreSums}, std::vector<double>(static_cast<size_t>(kScoreSums)));
    const TestTensor extremes(DType::kF64, {2}, {-HUGE_VAL, -HUGE_VAL});
    score_sums(stream(), GateActivation::kSigmoid, logits, every, {0, 1}, sums, extremes);
    std::vector<double> all = sums.values();
    for (double extreme : extremes.values()) all.push_back(extreme);
    return all;
  };
  EXPECT_THAT(sums_of(z, 4), testing::Pointwise(testing::DoubleNear(1200 * close()), sums_of(alone, 1)));
}

TEST_P(Diagnostics, ScoresThatAreNoNumbersAreInNoBin) {
  const TestTensor z(dtype(), {3}, {0.3, std::nan(""), 0.6}), extremes(DType::kF64, {2}, {-HUGE_VAL, -HUGE_VAL});
  const TestTensor sums(DType::kF64, {kScoreSums}, std::vector<double>(static_cast<size_t>(kScoreSums)));
  score_sums(stream(), GateActivation::kIdentity, z, 1, {0, 1}, sums, extremes);
  const std::vector<double> got = sums.values();
  EXPECT_TRUE(std::isnan(got[kScoreTotal]));
  EXPECT_EQ(std::accumulate(got.begin() + kScoreHistogram, got.end(), 0.0), 2);
  EXPECT_NEAR(extremes.values()[0], 0.6, 1e-6);
}

TEST_P(Diagnostics, MassiveRowsHaveAnElementAboveTheFloorAndTheMedians) {
  const auto rows_of = [&](const std::vector<double>& row, double medians) {
    const TestTensor x(dtype(), {1, static_cast<int64_t>(row.size())}, row), count(DType::kF64, {1}, {2});
    massive_rows(stream(), x, 100, medians, count);
    return count.values()[0] - 2;
  };
  EXPECT_EQ(rows_of({0.1, -150, 0.1, 0.1, 0.1}, 1000), 1);
  EXPECT_EQ(rows_of({0.1, 99, 0.001, 0.001, 0.001}, 1000), 0) << "not above the floor";
  EXPECT_EQ(rows_of({0.2, -150, 0.1, 0.2, -0.1}, 1000), 0) << "750 medians";
  EXPECT_EQ(rows_of({0.2, -150, 0.1, 0.2, -0.1}, 700), 1);
  EXPECT_EQ(rows_of({0.1, 150, 0.1, 0.2}, 1000), 0) << "the upper of two middle elements is 0.2";
  EXPECT_EQ(rows_of({0.1, 150, 0.1, 0.15}, 1000), 1);
}

TEST_P(Diagnostics, TheLargestElementIsFoundAndNanIsKept) {
  const TestTensor out(DType::kF64, {1});
  largest_element(stream(), TestTensor(dtype(), {3}, {-5, -2, -7}), out);
  EXPECT_EQ(out.values()[0], -2);
  std::vector<double> values(100, 1.0);
  values[50] = std::nan("");
  largest_element(stream(), TestTensor(dtype(), {100}, values), out);
  EXPECT_TRUE(std::isnan(out.values()[0]));
}

TEST_P(Diagnostics, ChoicesAreCounted) {
  const TestTensor indices(DType::kI32, {3, 2}), counts(DType::kF64, {4}, {1, 1, 1, 1});
  const int32_t chosen[] = {0, 3, 3, 1, 0, 3};
  std::copy(std::begin(chosen), std::end(chosen), static_cast<Tensor>(indices).as<int32_t>());
  count_choices(stream(), indices, counts);
  EXPECT_THAT(counts.values(), testing::ElementsAre(3, 2, 1, 4));
}

TEST_P(Diagnostics, MagnitudeSumsCountWhatIsSmall) {
  const TestTensor x(dtype(), {6}, {0, -0.0005, 0.002, -0.5, 4, 0.03});
  const TestTensor sums(DType::kF64, {kMagnitudeSums}, {1, 0, 0, 0});
  magnitude_sums(stream(), x, 0.5, sums);
  const std::vector<double> got = sums.values();
  EXPECT_EQ(got[kMagnitudeCount], 7);
  EXPECT_NEAR(got[kMagnitudeTotal], 0.5 * 4.5325, 1e-6);
  EXPECT_EQ(got[kBelowHundredth], 3);
  EXPECT_EQ(got[kBelowThousandth], 2);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Diagnostics, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
