#include "runtime/step.h"

#include <algorithm>
#include <limits>

#include <gtest/gtest.h>

#include "runtime/non_finite.h"
#include "tests/reference/complex_step.h"
#include "tests/runtime/allocations.h"
#include "tests/runtime/training_fixture.h"

namespace sluice {
namespace {

using reference::relative_l2;

constexpr double kRounding = 1e-12;  // relative L2, of parameters after a few steps in f64

void expect_same_training(const Trained& got, const Trained& want) {
  EXPECT_LE(relative_l2(got.weights, want.weights), kRounding);
  EXPECT_LE(relative_l2(got.losses, want.losses), kRounding);
  EXPECT_LE(relative_l2(got.grad_norms, want.grad_norms), kRounding);
}

TEST(TrainStep, ThreadGroupRanksEqualOneRank) {
  const Trained one = train_tiny(tiny_config(), 1, 3);
  for (const int size : {2, 4}) {
    const std::string micro = concat("training.micro_batch_size=", 4 / size);
    expect_same_training(train_tiny(tiny_config({micro}, size), size, 3), one);
  }
}

TEST(TrainStep, ThreadGroupRanksRepeatToTheLastBit) {
  const TrainConfig config =
      tiny_config({"training.micro_batch_size=1", "training.global_batch_size=3", "precision=F32", "cpu.threads=2"}, 3);
  const Trained first = train_tiny(config, 3, 3), second = train_tiny(config, 3, 3);
  EXPECT_EQ(first.weights, second.weights);
  EXPECT_EQ(first.losses, second.losses);
}

TEST(TrainStep, EveryRankHoldsTheSameParameters) {
  const TrainConfig config = tiny_config({"training.micro_batch_size=2", "precision=F32"}, 2);
  std::vector<std::vector<double>> weights(2);
  run_ranks(2, [&](ProcessGroup& group) {
    TinyRun run(config, group);
    for (int64_t step = 1; step <= 2; ++step) run.run(step);
    weights[static_cast<size_t>(group.rank())] = run.weights();
  });
  EXPECT_EQ(weights[0], weights[1]);
}

TEST(TrainStep, AccumulationEqualsOneLargeBatchWhereTheBalanceLossIsCountedAlike) {
  const std::string no_balance = "model.moe.balance_coef=0";
  expect_same_training(train_tiny(tiny_config({no_balance, "training.micro_batch_size=1"}), 1, 3),
                       train_tiny(tiny_config({no_balance}), 1, 3));
  // Expert shares counted over a group of samples are the same whoever computes the group, and when.
  const std::string group = "model.moe.balance_scope=GROUP", two = "training.micro_batch_size=2";
  expect_same_training(train_tiny(tiny_config({group, two}), 1, 3), train_tiny(tiny_config({group, two}, 2), 2, 3));
}

TEST(TrainStep, TheScopeOfTheBalanceLossMatters) {
  const std::vector<std::string> halves = {"training.micro_batch_size=2"};
  const auto with = [&](const char* scope) {
    std::vector<std::string> overrides = halves;
    overrides.push_back(concat("model.moe.balance_scope=", scope));
    return train_tiny(tiny_config(overrides), 1, 1).losses[0];
  };
  EXPECT_EQ(with("GROUP"), with("MICRO_STEP")) << "one rank";
  EXPECT_NE(with("RUNNING"), with("MICRO_STEP"));
}

TEST(TrainStep, RecomputedBlocksChangeNoBit) {
  for (const char* precision : {"precision=F32", "precision=F64"}) {
    const Trained kept = train_tiny(tiny_config({precision}), 1, 3);
    for (const char* range : {"{first_layer: 0 last_layer: 0}", "{first_layer: 0 last_layer: 1}"}) {
      const Trained again = train_tiny(tiny_config({precision, concat("training.recompute[0]=", range)}), 1, 3);
      EXPECT_EQ(again.weights, kept.weights) << precision << " " << range;
    }
  }
}

TEST(TrainStep, RecomputedBlocksKeepFewerActivations) {
  const auto groups = make_thread_groups(1);
  const auto saved_bytes = [&](const std::vector<std::string>& overrides) {
    TinyRun run(tiny_config(overrides), *groups[0]);
    run.run(1);
    return run.memory().saved.high_water_bytes();
  };
  EXPECT_LT(saved_bytes({"training.recompute[0]={first_layer: 0 last_layer: 1}"}), saved_bytes({}) / 2);
}

TEST(TrainStep, AllocatesNothingFromTheSecondStepOn) {
  const auto groups = make_thread_groups(1);
  for (const char* recompute : {"training.recompute=", "training.recompute[0]={first_layer: 0 last_layer: 1}"}) {
    TinyRun run(tiny_config({"precision=F32", "training.micro_batch_size=2", "cpu.threads=2", "optimizer.update_clip=1",
                             "optimizer.qk_clip=1", "model.qk_norm=false", recompute}),
                *groups[0]);
    NonFiniteFinder finder(run.mesh(), run.model(), run.step());
    run.step().set_watch(&finder);
    finder.begin_step(run.stream());
    run.run(1);
    run.step().measure_updates(true);
    finder.begin_step(run.stream());
    const int64_t before = allocations_of_this_thread();
    run.run(2);
    EXPECT_EQ(allocations_of_this_thread(), before) << recompute;
  }
}

TEST(TrainStep, AnInfiniteGradientNormSkipsTheUpdate) {
  const auto groups = make_thread_groups(1);
  TinyRun run(tiny_config(), *groups[0]);
  run.run(1);
  Tensor norm = run.model().weight_tensors.norm;
  norm.as<double>()[0] = std::numeric_limits<double>::infinity();
  const std::vector<double> before = run.weights();
  const StepResult& result = run.run(2);
  EXPECT_TRUE(result.skipped);
  EXPECT_FALSE(std::isfinite(result.grad_norm));
  EXPECT_EQ(run.weights(), before);
}

TEST(TrainStep, WhatIsAboveALimitSkipsTheUpdateAndChangesNothing) {
  const TrainConfig config = tiny_config({"model.moe.selection_bias_rate=0.01"});
  const auto groups = make_thread_groups(1);
  TinyRun measured(config, *groups[0]);
  measured.run(1);
  const StepResult second = measured.run(2);
  const double below_loss = std::nextafter(second.losses.lm_loss, 0), below_norm = std::nextafter(second.grad_norm, 0);
  for (const UpdateLimits& limits :
       {UpdateLimits{below_loss, second.grad_norm}, UpdateLimits{second.losses.lm_loss, below_norm}}) {
    TinyRun run(config, *groups[0]);
    run.run(1);
    const std::vector<double> weights = run.weights(), moments = run.moments();
    const StepResult& result = run.run(2, limits);
    EXPECT_TRUE(result.skipped);
    EXPECT_EQ(result.losses.lm_loss, second.losses.lm_loss) << "it is told all the same";
    EXPECT_EQ(run.weights(), weights);
    EXPECT_EQ(run.moments(), moments);
  }
  TinyRun run(config, *groups[0]);
  run.run(1);
  EXPECT_FALSE(run.run(2, {second.losses.lm_loss, second.grad_norm}).skipped) << "at its limits";
  EXPECT_EQ(run.weights(), measured.weights());
  EXPECT_EQ(run.moments(), measured.moments());
}

}  // namespace
}  // namespace sluice
