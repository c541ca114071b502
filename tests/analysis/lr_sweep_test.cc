#include "launch/analysis/lr_sweep.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "launch/analysis/report_sections.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A finished run that began with a loss of 8.
FinishedRun run_of(double lr, double loss, int64_t seed = 1, int gates = 0) {
  FinishedRun run;
  run.folder = "runs/x";
  run.config.mutable_optimizer()->set_lr(lr);
  run.config.mutable_training()->set_seed(seed);
  run.config.mutable_model();
  for (int i = 0; i < gates; ++i) run.config.mutable_model()->add_gates();
  for (int64_t step = 1; step <= 20; ++step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.lm_loss = step == 1 ? 8 : loss + (step % 2 ? 0.1 : -0.1);
    metrics.layers.first_token_attention = {0.1, 0.3};
    metrics.layers.max_activation = {2, lr * 1000};
    run.steps.push_back(metrics);
  }
  run.loss = loss;
  return run;
}
FinishedRun diverged(double lr, int64_t seed = 1) {
  FinishedRun run = run_of(lr, std::numeric_limits<double>::infinity(), seed);
  run.diverged = true;
  run.left_out = "it diverged";
  return run;
}
std::vector<LrSweep> sweeps_of(std::vector<FinishedRun> runs) { return lr_sweeps(report_runs(std::move(runs))); }

TEST(LrSweep, HasItsBestAndItsHighestStableRate) {
  // In no order; of 1e-1 the loss is worse than it began with.
  const auto sweeps = sweeps_of({run_of(1e-2, 3.2), run_of(1e-4, 5), run_of(1e-3, 3), run_of(1e-1, 9), diverged(1)});
  ASSERT_EQ(sweeps.size(), 1u);
  const LrSweep& sweep = sweeps.front();
  std::vector<double> rates;
  for (const LrPoint& point : sweep.points) rates.push_back(point.lr);
  EXPECT_THAT(rates, ElementsAre(1e-4, 1e-3, 1e-2, 1e-1, 1));
  EXPECT_EQ(sweep.best_lr, 1e-3);
  EXPECT_EQ(sweep.best_loss, 3);
  EXPECT_EQ(sweep.highest_stable_lr, 1e-2);
  EXPECT_EQ(sweep.diverged, 1);
  // The two that failed count as what they began with.
  EXPECT_NEAR(*sweep.sensitivity, (2 + 0 + 0.2 + 5 + 5) / 5, 1e-12);
  EXPECT_FALSE(sweep.sensitivity_interval);
  EXPECT_TRUE(std::isnan(sweep.points.back().loss));
  EXPECT_EQ(sweep.points[1].first_token_attention, 0.2);
  EXPECT_EQ(sweep.points[2].max_activation, 10);
}

TEST(LrSweep, BarsAreOfSeedsOrOfARunsOwnNoise) {
  const auto sweeps = sweeps_of({run_of(1, 3.1, 1), run_of(1, 3.3, 2), run_of(2, 3), run_of(3, 4)});
  ASSERT_EQ(sweeps.size(), 1u);
  const auto& points = sweeps.front().points;
  EXPECT_EQ(points[0].bar.low, 3.1);
  EXPECT_EQ(points[0].bar.high, 3.3);
  EXPECT_DOUBLE_EQ(points[0].loss, 3.2);
  // Of two losses, 0.1 above and below: means of samples lie there.
  EXPECT_NEAR(points[1].bar.low, 2.9, 1e-9);
  EXPECT_NEAR(points[1].bar.high, 3.1, 1e-9);
  ASSERT_TRUE(sweeps.front().sensitivity_interval);
  EXPECT_TRUE(sweeps.front().sensitivity_interval->holds(*sweeps.front().sensitivity));
}

TEST(LrSweep, OneSeedThatDivergesMakesARateUnstable) {
  const auto sweeps = sweeps_of({run_of(1, 3), run_of(2, 3.1, 1), diverged(2, 2), run_of(3, 3.2)});
  ASSERT_EQ(sweeps.size(), 1u);
  EXPECT_EQ(sweeps.front().highest_stable_lr, 1);
  EXPECT_EQ(sweeps.front().points[1].diverged, 1);
  EXPECT_EQ(sweeps.front().points[1].loss, 3.1);
}

TEST(LrSweep, VariantsAreWhatDiffersBeyondRateAndSeed) {
  std::vector<FinishedRun> runs;
  for (const double lr : {1, 2, 3}) {
    for (const int gates : {0, 1}) runs.push_back(run_of(lr, 3 + 0.1 * gates, 1, gates));
  }
  const auto sweeps = sweeps_of(runs);
  ASSERT_EQ(sweeps.size(), 2u);
  EXPECT_EQ(sweeps[0].variant, "all");
  EXPECT_EQ(sweeps[1].variant, "model.gates[0]={ }");
  runs.resize(4);
  EXPECT_THAT(sweeps_of(runs), IsEmpty()) << "two rates are no sweep";
}

TEST(LrSweep, CellsAreCalledWhatTheirStudyCallsThem) {
  std::vector<FinishedRun> runs;
  for (const double lr : {1, 2, 3}) {
    runs.push_back(run_of(lr, 3));
    runs.back().folder = "study/cells/lr=" + std::to_string(lr) + ",gate=none,seed=1";
  }
  EXPECT_EQ(sweeps_of(runs).at(0).variant, "gate=none");
}

TEST(LrSweep, CountsSpikesWhereALogIsLongEnoughToSeeThem) {
  std::vector<FinishedRun> runs = {run_of(1, 3), run_of(2, 3), run_of(3, 3)};
  EXPECT_EQ(sweeps_of(runs).at(0).spikes, std::nullopt) << "of 20 steps none can be told";
  for (int64_t step = 21; step <= 120; ++step) {
    StepMetrics metrics = runs[1].steps.back();
    metrics.step = step;
    metrics.lm_loss = step == 90 || step == 91 ? 6 : 3 + (step % 2 ? 0.1 : -0.1);
    runs[1].steps.push_back(metrics);
  }
  const auto reported = report_runs(runs);
  ASSERT_EQ(reported[1].spikes.size(), 1u);
  EXPECT_EQ(reported[1].spikes[0].peak, 6);
  EXPECT_THAT(losses_section(reported), HasSubstr(": spike in steps 90 to 9"));
  const auto sweep = lr_sweeps(reported).at(0);
  EXPECT_EQ(sweep.spikes, 1);
  EXPECT_EQ(sweep.points[0].spikes, std::nullopt);
  EXPECT_EQ(sweep.points[1].spikes, 1);
}

TEST(LrSweep, WhatIsNotAtItsEndIsNoPartOfIt) {
  std::vector<FinishedRun> runs = {run_of(1, 3), run_of(2, 3), run_of(3, 3), run_of(4, 1)};
  runs.back().left_out = "it is at step 3 of 20";
  const auto sweeps = sweeps_of(runs);
  ASSERT_EQ(sweeps.size(), 1u);
  EXPECT_EQ(sweeps.front().runs, 3);
  EXPECT_EQ(sweeps.front().best_loss, 3);
}

TEST(LrSweep, WhatAlwaysDivergesIsThereWithoutABest) {
  const auto none = sweeps_of({diverged(1), diverged(2), diverged(3)});
  ASSERT_EQ(none.size(), 1u);
  EXPECT_EQ(none.front().diverged, 3);
  EXPECT_FALSE(none.front().best_lr || none.front().highest_stable_lr || none.front().sensitivity);
  // With one good seed a rate has a loss, but is not stable.
  const auto some = sweeps_of({diverged(1, 1), run_of(1, 3, 2), diverged(2), diverged(3)});
  ASSERT_EQ(some.size(), 1u);
  EXPECT_FALSE(some.front().best_lr || some.front().highest_stable_lr);
  EXPECT_NEAR(*some.front().sensitivity, (0 + 2.5 + 2.5) / 3, 1e-12);
}

TEST(LrSweep, WhereDataLieAndHowItIsComputedMakesNoVariant) {
  std::vector<FinishedRun> runs = {run_of(1, 3), run_of(2, 3), run_of(3, 3)};
  runs[1].config.mutable_data()->set_tokenizer("elsewhere");
  runs[1].config.mutable_training()->set_micro_batch_size(2);
  runs[2].config.mutable_mesh()->set_tp(2);
  EXPECT_EQ(sweeps_of(runs).size(), 1u);
}

TEST(LrSweep, VariantsOfOneNameStayApart) {
  std::vector<FinishedRun> runs;
  for (const double lr : {1, 2, 3}) {
    for (const int layers : {1, 2}) {
      runs.push_back(run_of(lr, layers));
      runs.back().config.mutable_model()->set_num_layers(layers);
      runs.back().folder = "study" + std::to_string(layers) + "/cells/lr=" + std::to_string(lr) + ",gate=none";
    }
  }
  const auto sweeps = sweeps_of(runs);
  ASSERT_EQ(sweeps.size(), 2u);
  EXPECT_EQ(sweeps[0].variant, "gate=none");
  EXPECT_EQ(sweeps[1].variant, "gate=none (2)");
  EXPECT_EQ(sweeps[0].best_loss, 1);
  EXPECT_EQ(sweeps[1].best_loss, 2);
}

}  // namespace
}  // namespace sluice
