#include "runtime/schedule.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

OptimizerConfig optimizer(OptimizerConfig::Schedule schedule) {
  OptimizerConfig o;
  o.set_lr(2e-3);
  o.set_min_lr(3e-5);
  o.set_warmup_steps(10);
  o.set_decay_steps(20);
  o.set_schedule(schedule);
  return o;
}

TEST(LearningRate, WarmsUpLinearlyToThePeak) {
  const OptimizerConfig o = optimizer(OptimizerConfig::COSINE);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 1), 2e-4);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 5), 1e-3);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 10), 2e-3);
}

TEST(LearningRate, CosineEndsAtTheAbsoluteFloor) {
  const OptimizerConfig o = optimizer(OptimizerConfig::COSINE);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 55), 3e-5 + 0.5 * (2e-3 - 3e-5));
  EXPECT_NEAR(learning_rate(o, 100, 100), 3e-5, 1e-18);
}

TEST(LearningRate, WsdStaysAndThenFallsLinearly) {
  const OptimizerConfig o = optimizer(OptimizerConfig::WSD);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 80), 2e-3);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 90), 3e-5 + 0.5 * (2e-3 - 3e-5));
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 100), 3e-5);
}

TEST(LearningRate, WithoutWarmUpTheFirstStepOfAConstantScheduleHasThePeak) {
  OptimizerConfig o = optimizer(OptimizerConfig::CONSTANT);
  o.set_warmup_steps(0);
  EXPECT_DOUBLE_EQ(learning_rate(o, 100, 1), 2e-3);
}

TEST(BatchRamp, SamplesAddUpAcrossIt) {
  TrainingConfig t;
  t.set_global_batch_size(8);
  BatchRamp& first = *t.add_batch_ramp();
  first.set_before_step(3);
  first.set_global_batch_size(2);
  BatchRamp& second = *t.add_batch_ramp();
  second.set_before_step(5);
  second.set_global_batch_size(4);
  int64_t samples = 0;
  for (int64_t step = 1; step <= 8; ++step) {
    EXPECT_EQ(samples_before(t, step), samples) << step;
    samples += batch_size(t, step);
  }
  EXPECT_EQ(samples, 2 + 2 + 4 + 4 + 8 * 4);
}

}  // namespace
}  // namespace sluice
