#include "runtime/stability/spike_detector.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/error.h"

namespace sluice {
namespace {

/// Values that a level and a trend need, and scatter that a judgement needs.
constexpr size_t kFewest = 5, kFewestScatter = 30;
/// Of n values the scatter is known to about 1 / sqrt(n): the threshold is higher by this over n.
constexpr double kCaution = 20;
/// The share below which the lower side of the scatter is taken, and where a normal distribution has it.
constexpr double kLowShare = 0.1, kLowDeviations = 1.2815515655446004;
/// Of the level: what is smaller is rounding.
constexpr double kLeastNoise = 1e-6;
/// Differences of smaller values are finite.
constexpr double kLargest = 1e300;

}  // namespace

SpikeDetector::SpikeDetector(const StabilityConfig& config)
    : threshold_(config.threshold()),
      level_(static_cast<size_t>(config.level_window())),
      trend_(static_cast<size_t>(config.trend_window())),
      noise_(static_cast<size_t>(config.noise_window())) {}

bool SpikeDetector::has_level() const { return level_.count() >= kFewest; }
bool SpikeDetector::has_trend() const { return has_level() && trend_.count() >= kFewest; }

std::optional<SpikeDetector::Scale> SpikeDetector::scale() const {
  if (!has_trend() || noise_.count() < kFewestScatter) return std::nullopt;
  const double level = level_.median(), middle = noise_.median();
  Scale scale;
  scale.trend = level + trend_.median() + middle;
  scale.noise =
      std::max((middle - noise_.quantile(kLowShare)) / kLowDeviations, kLeastNoise * std::max(1.0, std::abs(level)));
  scale.limit = scale.trend + threshold_ * (1 + kCaution / static_cast<double>(noise_.count())) * scale.noise;
  return scale;
}

double SpikeDetector::limit() const {
  const std::optional<Scale> scale = this->scale();
  return scale ? scale->limit : std::numeric_limits<double>::infinity();
}

SpikeReading SpikeDetector::see(double value) {
  SpikeReading reading;
  const std::optional<Scale> scale = this->scale();
  reading.baseline = has_level() ? level_.median() : std::numeric_limits<double>::quiet_NaN();
  reading.trend = scale ? scale->trend : reading.baseline;
  reading.noise = scale ? scale->noise : 0;
  reading.limit = scale ? scale->limit : std::numeric_limits<double>::infinity();
  if (!(std::abs(value) <= kLargest)) {
    reading.score = std::numeric_limits<double>::infinity();
    reading.spike = true;
    return reading;
  }
  if (scale) {
    reading.score = (value - scale->trend) / scale->noise;
    reading.spike = value > scale->limit;
  }
  if (has_trend()) noise_.add(value - reading.baseline - trend_.median());
  if (has_level()) trend_.add(value - reading.baseline);
  level_.add(value);
  return reading;
}

SignalState SpikeDetector::state() const {
  SignalState state;
  for (double value : level_.in_order()) state.add_level(value);
  for (double value : trend_.in_order()) state.add_trend(value);
  for (double value : noise_.in_order()) state.add_noise(value);
  return state;
}

void SpikeDetector::restore(const SignalState& state) {
  const auto fill = [](RollingWindow& window, const auto& values) {
    window.clear();
    for (double value : values) {
      ENSURE(std::abs(value) <= 3 * kLargest, "a remembered value is ", value, ", expected a finite number");
      window.add(value);
    }
  };
  fill(level_, state.level());
  fill(trend_, state.trend());
  fill(noise_, state.noise());
}

}  // namespace sluice
