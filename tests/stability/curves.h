#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "runtime/stability/episodes.h"

namespace sluice {

/// Noise of a logged loss: its standard deviation, and how much a value takes from the one before it.
struct NoiseKind {
  double deviation = 0.02, correlation = 0;
};

/// A loss that falls from 11 to 2, logged at every step from 1 on, without spikes.
inline std::vector<CurvePoint> falling_loss(int64_t points, const NoiseKind& noise, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<CurvePoint> curve;
  double wave = normal(generator);
  for (int64_t step = 1; step <= points; ++step) {
    curve.push_back({step, 2 + 9 / std::sqrt(1 + static_cast<double>(step) / 10) + noise.deviation * wave});
    wave = noise.correlation * wave + std::sqrt(1 - noise.correlation * noise.correlation) * normal(generator);
  }
  return curve;
}

inline std::vector<SpikeEpisode> episodes_of(const std::vector<CurvePoint>& curve,
                                             const StabilityConfig& config = StabilityConfig()) {
  EpisodeFinder finder(config);
  for (const CurvePoint& point : curve) finder.see(point);
  return finder.episodes();
}

}  // namespace sluice
