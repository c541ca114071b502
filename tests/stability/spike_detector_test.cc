#include "runtime/stability/spike_detector.h"

#include <limits>

#include <gmock/gmock.h>

#include "tests/stability/curves.h"
#include "tests/stability/truth.h"

namespace sluice {
namespace {

constexpr NoiseKind kNoises[] = {{0.003, 0},  {0.02, 0},  {0.1, 0},     {0.02, 0.5},
                                 {0.02, 0.9}, {0.1, 0.9}, {0.02, 0.98}, {0.1, 0.98}};

TEST(SpikeDetector, FallingLossesWithoutSpikesHaveAtMostOneInTenThousandValues) {
  for (const NoiseKind& noise : kNoises) {
    for (unsigned seed : {1, 2, 3}) {
      EXPECT_LE(episodes_of(falling_loss(10000, noise, seed)).size(), 1u)
          << noise.deviation << " " << noise.correlation << " seed " << seed;
    }
  }
}

/// Spikes of several heights and lengths, some close together, in units of the noise.
std::vector<CurvePoint> spiked_loss(const NoiseKind& noise, unsigned seed) {
  struct Spike {
    size_t at;
    double height;
    int points;
  };
  std::vector<CurvePoint> curve = falling_loss(6000, noise, seed);
  for (const Spike& spike : {Spike{1000, 12, 1},
                             {1600, 60, 5},
                             {2200, 12, 2},
                             {2900, 400, 30},
                             {3600, 20, 1},
                             {4150, 30, 3},
                             {4800, 15, 1}}) {
    for (int i = 0; i < spike.points; ++i) {
      curve[spike.at + static_cast<size_t>(i)].value += noise.deviation * spike.height * std::pow(0.8, i);
    }
  }
  return curve;
}

TEST(SpikeDetector, FindsSpikesWhereTheyBegin) {
  for (const NoiseKind& noise : {NoiseKind{0.005, 0}, {0.02, 0}, {0.1, 0.5}}) {
    const std::vector<CurvePoint> curve = spiked_loss(noise, 5);
    const Judgement judgement = judge(curve, episodes_of(curve), 8 * noise.deviation, 300);
    EXPECT_EQ(judgement.truths, 7);
    EXPECT_EQ(judgement.found, 7) << noise.deviation;
    EXPECT_EQ(judgement.false_reports, 0);
  }
}

TEST(SpikeDetector, UnitsDoNotMatter) {
  std::vector<CurvePoint> curve = spiked_loss({0.02, 0}, 6), larger = curve;
  for (CurvePoint& point : larger) point.value *= 1024;
  SpikeDetector detector{StabilityConfig()}, other{StabilityConfig()};
  for (size_t i = 0; i < curve.size(); ++i) {
    EXPECT_EQ(detector.see(curve[i].value).score, other.see(larger[i].value).score) << i;
  }
}

TEST(SpikeDetector, WorksFromTheFirstHundredStepsOnThroughAFallingLoss) {
  std::vector<CurvePoint> curve = falling_loss(100, {0.02, 0}, 7);
  curve[70].value += 1.5;
  const std::vector<SpikeEpisode> episodes = episodes_of(curve);
  ASSERT_EQ(episodes.size(), 1u);
  EXPECT_EQ(episodes[0].first_step, 71);
  EXPECT_EQ(episodes[0].peak_step, 71);
  EXPECT_EQ(episodes[0].peak, curve[70].value);
}

TEST(SpikeDetector, AValueThatIsNotFiniteIsASpikeAndTeachesNothing) {
  for (double lost : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                      std::numeric_limits<double>::max()}) {
    SpikeDetector detector{StabilityConfig()}, undisturbed{StabilityConfig()};
    EXPECT_TRUE(detector.see(lost).spike) << "the first value of all";
    for (const CurvePoint& point : falling_loss(300, {0.02, 0}, 8)) {
      if (point.step % 10 == 0) {
        EXPECT_TRUE(detector.see(lost).spike);
      }
      EXPECT_EQ(detector.see(point.value).score, undisturbed.see(point.value).score);
    }
  }
}

TEST(SpikeDetector, ALossThatStaysHighIsASpikeOnlyUntilItIsTheLevel) {
  std::vector<CurvePoint> curve = falling_loss(3000, {0.02, 0}, 9);
  for (size_t i = 2000; i < curve.size(); ++i) curve[i].value += 1;
  const std::vector<SpikeEpisode> episodes = episodes_of(curve);
  ASSERT_EQ(episodes.size(), 1u);
  EXPECT_EQ(episodes[0].first_step, 2001);
  EXPECT_LE(episodes[0].last_step, 2050);
}

TEST(SpikeDetector, ACopyGoesOnAlike) {
  const std::vector<CurvePoint> curve = spiked_loss({0.02, 0.5}, 10);
  SpikeDetector detector{StabilityConfig()};
  for (size_t i = 0; i < 2000; ++i) detector.see(curve[i].value);
  SpikeDetector copy = detector;
  for (size_t i = 2000; i < curve.size(); ++i) {
    EXPECT_EQ(detector.see(curve[i].value).score, copy.see(curve[i].value).score);
  }
}

TEST(EpisodeFinder, JoinsSpikesThatAreCloseTogether) {
  std::vector<CurvePoint> curve = falling_loss(2000, {0.02, 0}, 11);
  for (size_t i : {1000, 1090, 1190, 1400}) curve[i].value += i == 1090 ? 2 : 1;
  const std::vector<SpikeEpisode> episodes = episodes_of(curve);
  ASSERT_EQ(episodes.size(), 2u);
  EXPECT_EQ(episodes[0].first_step, 1001);
  EXPECT_EQ(episodes[0].last_step, 1191);
  EXPECT_EQ(episodes[0].peak_step, 1091);
  EXPECT_EQ(episodes[0].peak, curve[1090].value);
  EXPECT_NEAR(episodes[0].baseline, 2.9, 0.1);
  EXPECT_EQ(episodes[1].first_step, 1401);
  curve[1100].value = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(episodes_of(curve)[0].peak_step, 1101) << "what is not finite is the peak";
}

}  // namespace
}  // namespace sluice
