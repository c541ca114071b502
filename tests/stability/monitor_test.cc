#include "runtime/stability/monitor.h"

#include <limits>

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>

#include "kernels/core/error.h"
#include "tests/stability/curves.h"

namespace sluice {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();

StabilityConfig skipping() {
  StabilityConfig config;
  config.mutable_lm_loss()->set_action(SignalPolicy::SKIP);
  config.mutable_grad_norm()->set_action(SignalPolicy::SKIP);
  return config;
}

/// A gradient norm that falls with the loss.
double norm_of(const CurvePoint& point) { return 0.1 * point.value * point.value; }

TEST(StabilityMonitor, LimitsAreThoseThatItsJudgementsAreMadeBy) {
  StabilityMonitor monitor(skipping());
  for (const CurvePoint& point : falling_loss(500, {0.02, 0}, 1)) {
    const double loss = monitor.skip_limit_of_loss(), norm = monitor.skip_limit_of_grad_norm();
    if (point.step <= 40) {
      EXPECT_EQ(loss, kLargest);
      EXPECT_EQ(norm, kLargest);
    } else {
      // A value at the limit is none, the next above is one.
      for (double above : {0, 1}) {
        StabilityMonitor trial = monitor;
        const auto next = [&](double x) { return above > 0 ? std::nextafter(x, kLargest) : x; };
        EXPECT_EQ(trial.see(point.step, next(loss), next(norm)).size(), above > 0 ? 2u : 0u) << point.step;
      }
    }
    EXPECT_THAT(monitor.see(point.step, point.value, norm_of(point)), testing::IsEmpty()) << point.step;
  }
}

TEST(StabilityMonitor, WithoutAPolicyNothingIsSkippedButSpikesAreTold) {
  StabilityMonitor monitor{StabilityConfig()};
  for (const CurvePoint& point : falling_loss(500, {0.02, 0}, 2)) {
    EXPECT_EQ(monitor.skip_limit_of_loss(), kLargest);
    monitor.see(point.step, point.value, 1);
  }
  const std::vector<SignalSpike> spikes = monitor.see(501, 9, 1);
  ASSERT_EQ(spikes.size(), 1u);
  EXPECT_EQ(spikes[0].signal, "lm_loss");
  EXPECT_EQ(spikes[0].value, 9);
  EXPECT_LT(spikes[0].limit, 4);
  EXPECT_EQ(spikes[0].action, SignalPolicy::LOG);
  EXPECT_TRUE(spikes[0].first);
  EXPECT_FALSE(monitor.see(502, 9, 1)[0].first) << "the same episode";
  EXPECT_TRUE(monitor.see(700, 9, 1)[0].first);
}

TEST(StabilityMonitor, ASignalMayHaveItsOwnThreshold) {
  StabilityConfig config = skipping();
  config.mutable_lm_loss()->set_threshold(60);
  StabilityMonitor strict(skipping()), lenient(config);
  for (const CurvePoint& point : falling_loss(300, {0.02, 0}, 3)) {
    for (StabilityMonitor* monitor : {&strict, &lenient}) monitor->see(point.step, point.value, norm_of(point));
  }
  EXPECT_GT(lenient.skip_limit_of_loss(), strict.skip_limit_of_loss() + 0.8);
  EXPECT_EQ(lenient.skip_limit_of_grad_norm(), strict.skip_limit_of_grad_norm());
}

TEST(StabilityMonitor, GoesOnFromItsStateToTheLastBit) {
  const std::vector<CurvePoint> curve = falling_loss(900, {0.02, 0.5}, 4);
  for (size_t kept : {size_t{3}, size_t{60}, size_t{450}}) {
    StabilityMonitor before(skipping()), after(skipping()), uninterrupted(skipping());
    for (size_t i = 0; i < kept; ++i) {
      before.see(curve[i].step, curve[i].value, norm_of(curve[i]));
      uninterrupted.see(curve[i].step, curve[i].value, norm_of(curve[i]));
    }
    StabilityState read;
    std::string text;
    ASSERT_TRUE(google::protobuf::TextFormat::PrintToString(before.state(), &text));
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &read));
    after.restore(read);
    for (size_t i = kept; i < curve.size(); ++i) {
      ASSERT_EQ(after.skip_limit_of_loss(), uninterrupted.skip_limit_of_loss()) << i;
      ASSERT_EQ(after.skip_limit_of_grad_norm(), uninterrupted.skip_limit_of_grad_norm()) << i;
      for (StabilityMonitor* monitor : {&after, &uninterrupted}) {
        monitor->see(curve[i].step, curve[i].value, norm_of(curve[i]));
      }
    }
  }
}

TEST(StabilityMonitor, AStateOfLongerWindowsGivesItsLastValuesAndNumbersMustBeFinite) {
  StabilityConfig shorter;
  shorter.set_noise_window(50);
  StabilityMonitor longer{StabilityConfig()}, monitor(shorter);
  for (const CurvePoint& point : falling_loss(500, {0.02, 0}, 5)) longer.see(point.step, point.value, 1);
  monitor.restore(longer.state());
  EXPECT_EQ(monitor.state().signals(0).noise_size(), 50);
  EXPECT_EQ(monitor.state().signals(0).noise(49), longer.state().signals(0).noise(199));
  StabilityState bad = longer.state();
  bad.mutable_signals(1)->set_trend(3, std::numeric_limits<double>::quiet_NaN());
  EXPECT_THROW(monitor.restore(bad), Error);
}

}  // namespace
}  // namespace sluice
