#include "launch/study/stop_rule.h"

#include <limits>

#include <gmock/gmock.h>

namespace sluice {
namespace {

using testing::HasSubstr;

TEST(StopRuleWatch, ComparesTheMeanOfItsWindow) {
  StopRule rule;
  rule.set_window(2);
  rule.set_loss_above(5);
  StopRuleWatch watch(rule);
  EXPECT_EQ(watch.see(1, 9), "") << "there is no window yet";
  EXPECT_THAT(watch.see(2, 4), HasSubstr("the mean loss of 2 steps is 6.5000 in step 2, above stop.loss_above=5"));
  EXPECT_EQ(watch.see(3, 6), "") << "the mean is not above";
}

TEST(StopRuleWatch, SeesARiseAboveTheLeast) {
  StopRule rule;
  rule.set_window(1);
  rule.set_rise(1);
  StopRuleWatch watch(rule);
  EXPECT_EQ(watch.see(1, 8), "");
  EXPECT_EQ(watch.see(2, 4), "");
  EXPECT_EQ(watch.see(3, 5), "");
  EXPECT_THAT(watch.see(4, 5.1), HasSubstr("more than stop.rise=1 above its least"));
  EXPECT_THAT(watch.see(5, std::numeric_limits<double>::quiet_NaN()), HasSubstr("more than stop.rise=1"));
}

TEST(StopRuleWatch, GoesOnWithWhatWasBeforeTheStepItBeginsWith) {
  StopRule rule;
  rule.set_window(1);
  rule.set_rise(1);
  StopRuleWatch first(rule);
  EXPECT_EQ(first.see(1, 8), "");
  EXPECT_EQ(first.see(2, 7.99), "") << "not much less";
  EXPECT_EQ(first.see(3, 4), "");
  EXPECT_EQ(first.see(4, 2), "");
  ASSERT_EQ(first.falls().size(), 3);
  const auto begins_with = [&](int64_t step, double loss) {
    StopRuleWatch later(rule);
    later.go_on(first.falls());
    return later.see(step, loss);
  };
  EXPECT_EQ(begins_with(1, 8), "") << "from the beginning: nothing has been";
  EXPECT_EQ(begins_with(4, 4.9), "") << "the 2 of step 4 has not been";
  EXPECT_THAT(begins_with(4, 5.1), HasSubstr("more than stop.rise=1 above its least"));
  EXPECT_THAT(begins_with(5, 3.1), HasSubstr("more than stop.rise=1 above its least"));
}

TEST(StopRuleWatch, WaitsForItsFirstStep) {
  StopRule rule;
  rule.set_window(1);
  rule.set_loss_above(1);
  rule.set_after_steps(3);
  StopRuleWatch watch(rule);
  EXPECT_EQ(watch.see(2, 9), "");
  EXPECT_NE(watch.see(3, 9), "");
}

TEST(StopRuleWatch, WithoutARuleNothingIsStopped) {
  StopRuleWatch watch((StopRule()));
  for (int64_t step = 1; step < 100; ++step) EXPECT_EQ(watch.see(step, std::numeric_limits<double>::infinity()), "");
}

}  // namespace
}  // namespace sluice
