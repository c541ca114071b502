#include "runtime/stability/rewind_plan.h"

#include <gmock/gmock.h>

#include "kernels/core/error.h"

namespace sluice {
namespace {

StabilityConfig config(double lr_factor = 1, int64_t most_rewinds = 10) {
  StabilityConfig config;
  config.set_episode_gap_steps(50);
  config.mutable_rewind()->set_steps_back(10);
  config.mutable_rewind()->set_lr_factor(lr_factor);
  config.mutable_rewind()->set_lr_steps(30);
  config.mutable_rewind()->set_most_rewinds(most_rewinds);
  return config;
}

TEST(RewindPlan, GoesBackTwiceAsFarWhenTheSpikeComesAgain) {
  RewindPlan plan(config());
  EXPECT_EQ(plan.latest_target(200), 190);
  plan.note(200, 190);
  EXPECT_EQ(plan.latest_target(195), 175) << "before the first spike again";
  EXPECT_EQ(plan.latest_target(250), 230);
  EXPECT_EQ(plan.latest_target(251), 241) << "another episode";
  plan.note(250, 230);
  EXPECT_EQ(plan.latest_target(260), 220);
  plan.note(320, 310);
  EXPECT_EQ(plan.latest_target(330), 310) << "its first was at 320";
}

TEST(RewindPlan, TargetsBeforeTheFirstStepAreTold) {
  RewindPlan plan(config());
  EXPECT_EQ(plan.latest_target(10), 0);
  EXPECT_EQ(plan.latest_target(9), -1);
  for (int i = 0; i < 100; ++i) plan.note(1000, 900);
  EXPECT_EQ(plan.latest_target(1000), -1);
}

TEST(RewindPlan, LowersTheLearningRateForAWhile) {
  RewindPlan plan(config(0.5)), unchanged(config());
  EXPECT_EQ(plan.lr_factor(1), 1);
  plan.note(200, 190);
  unchanged.note(200, 190);
  EXPECT_EQ(plan.lr_factor(191), 0.5);
  EXPECT_EQ(plan.lr_factor(220), 0.5);
  EXPECT_EQ(plan.lr_factor(221), 1);
  EXPECT_EQ(unchanged.lr_factor(191), 1);
}

TEST(RewindPlan, HasABudget) {
  RewindPlan plan(config(1, 2));
  for (int64_t step : {200, 1000}) {
    EXPECT_FALSE(plan.exhausted());
    plan.note(step, step - 10);
  }
  EXPECT_TRUE(plan.exhausted());
}

TEST(RewindPlan, GoesOnWhereAnotherWas) {
  RewindPlan first(config(0.5)), second(config(0.5));
  first.note(200, 190);
  second.restore(first.state());
  EXPECT_EQ(second.latest_target(210), first.latest_target(210));
  EXPECT_EQ(second.lr_factor(220), 0.5);
  EXPECT_EQ(second.state().rewinds(), 1);
}

TEST(RewindPlan, RefusesCountsThatCannotBe) {
  RewindState state;
  state.set_in_a_row(-1);
  try {
    RewindPlan(config()).restore(state);
    ADD_FAILURE() << "no Error was thrown";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("stability.rewind.in_a_row=-1, expected 0 to "));
  }
}

TEST(RewindPlan, NewestOfAListUpToAStep) {
  const std::vector<int64_t> steps{0, 20, 40};
  EXPECT_EQ(newest_up_to(steps, 40), 40);
  EXPECT_EQ(newest_up_to(steps, 39), 20);
  EXPECT_EQ(newest_up_to(steps, -1), std::nullopt);
  EXPECT_EQ(newest_up_to({}, 5), std::nullopt);
}

}  // namespace
}  // namespace sluice
