#include "runtime/stability/indicators.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "tests/stability/curves.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

/// A signal that scatters about 1 for `steps` steps, in each of some places.
std::vector<std::vector<IndicatorReading>> steady(Indicator indicator, const std::vector<std::string>& places,
                                                  int64_t steps) {
  std::vector<std::vector<IndicatorReading>> readings(static_cast<size_t>(steps));
  uint64_t seed = 1;
  for (const std::string& place : places) {
    const std::vector<CurvePoint> noise = falling_loss(steps, {0.02, 0}, seed++);
    for (size_t i = 0; i < readings.size(); ++i) readings[i].push_back({indicator, place, noise[i].value});
  }
  return readings;
}

TEST(IndicatorMonitor, TellsTheFarthestPlaceInPlainWordsOnceAnEpisode) {
  IndicatorMonitor monitor{StabilityConfig()};
  const auto readings = steady(Indicator::kAttentionLogitMax, {"layer 0", "layer 1", "layer 2"}, 100);
  int64_t step = 0;
  for (const auto& each : readings) EXPECT_THAT(monitor.see(++step, each), IsEmpty());
  std::vector<IndicatorReading> high = readings.back();
  high[1].value *= 3, high[2].value *= 2;
  const std::vector<SignalSpike> spikes = monitor.see(++step, high);
  ASSERT_EQ(spikes.size(), 1u);
  EXPECT_EQ(spikes[0].signal, "attention_logit_max of layer 1 (and 1 more)");
  EXPECT_EQ(spikes[0].value, high[1].value);
  EXPECT_LT(spikes[0].limit, high[1].value);
  EXPECT_TRUE(spikes[0].first);
  EXPECT_FALSE(spikes[0].skips());
  EXPECT_THAT(spikes[0].in_words(), HasSubstr(" deviations above its trend"));
  EXPECT_THAT(spikes[0].in_words(), HasSubstr("are the limit: attention is about to look at single tokens only"));
  EXPECT_FALSE(monitor.see(++step, high).at(0).first);
}

TEST(IndicatorMonitor, EntropyIsWatchedFromBelow) {
  IndicatorMonitor monitor{StabilityConfig()};
  const auto readings = steady(Indicator::kRouterEntropy, {"layer 0"}, 100);
  int64_t step = 0;
  for (const auto& each : readings) EXPECT_THAT(monitor.see(++step, each), IsEmpty());
  std::vector<IndicatorReading> other = readings.back();
  other[0].value *= 2;
  EXPECT_THAT(monitor.see(++step, other), IsEmpty()) << "it may rise";
  other[0].value /= 8;
  const std::vector<SignalSpike> spikes = monitor.see(++step, other);
  ASSERT_EQ(spikes.size(), 1u);
  EXPECT_GT(spikes[0].limit, other[0].value);
  EXPECT_THAT(spikes[0].in_words(), HasSubstr(" deviations below its trend"));
}

TEST(IndicatorMonitor, PoliciesHaveTheirOwnThresholdAndAction) {
  StabilityConfig config;
  config.mutable_indicators()->mutable_update_rms()->set_threshold(1e6);
  config.mutable_indicators()->mutable_max_activation()->set_action(SignalPolicy::REWIND);
  IndicatorMonitor monitor(config);
  auto readings = steady(Indicator::kUpdateRms, {"embed_tokens.weight"}, 100);
  const auto more = steady(Indicator::kMaxActivation, {"layer 0"}, 100);
  int64_t step = 0;
  for (size_t i = 0; i < readings.size(); ++i) {
    readings[i].push_back(more[i][0]);
    EXPECT_THAT(monitor.see(++step, readings[i]), IsEmpty());
  }
  for (IndicatorReading& reading : readings.back()) reading.value *= 5;
  const std::vector<SignalSpike> spikes = monitor.see(++step, readings.back());
  ASSERT_EQ(spikes.size(), 1u);
  EXPECT_EQ(spikes[0].signal, "max_activation of layer 0");
  EXPECT_EQ(spikes[0].action, SignalPolicy::REWIND);
}

TEST(IndicatorMonitor, WhatWasNotMeasuredIsNoSpike) {
  IndicatorMonitor monitor{StabilityConfig()};
  const IndicatorReading none{Indicator::kFirstTokenAttention, "layer 0", std::numeric_limits<double>::quiet_NaN()};
  for (int64_t step = 1; step < 100; ++step) EXPECT_THAT(monitor.see(step, {none}), IsEmpty());
}

TEST(IndicatorMonitor, AValueThatIsNotFiniteIsASpikeFromTheBeginning) {
  for (double value : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    IndicatorMonitor monitor{StabilityConfig()};
    const std::vector<SignalSpike> spikes = monitor.see(1, {{Indicator::kUpdateRms, "norm.weight", value}});
    ASSERT_EQ(spikes.size(), 1u);
    EXPECT_THAT(spikes[0].in_words(), testing::StartsWith("update_rms of norm.weight is "));
  }
}

TEST(IndicatorMonitor, AfterGoingBackASpikeIsToldAgain) {
  IndicatorMonitor monitor{StabilityConfig()};
  const IndicatorReading spoilt{Indicator::kUpdateRms, "norm.weight", std::numeric_limits<double>::infinity()};
  EXPECT_TRUE(monitor.see(100, {spoilt}).at(0).first);
  monitor.go_back(90);
  EXPECT_TRUE(monitor.see(95, {spoilt}).at(0).first);
  EXPECT_FALSE(monitor.see(96, {spoilt}).at(0).first);
}

TEST(LayerReadings, AreThoseOfTheMetrics) {
  LayerMetrics layers;
  layers.router_entropy = {1.5, 2.5};
  layers.expert_load_max_over_mean = {1.25, 1.75};
  layers.update_rms = {0.3, 0.4};  // parameters have it
  const std::vector<IndicatorReading> readings = layer_readings(layers);
  ASSERT_EQ(readings.size(), 4u);
  EXPECT_EQ(readings[1].indicator, Indicator::kRouterEntropy);
  EXPECT_EQ(readings[1].where, "layer 1");
  EXPECT_EQ(readings[1].value, 2.5);
  EXPECT_EQ(readings[3].indicator, Indicator::kExpertLoad);
}

}  // namespace
}  // namespace sluice
