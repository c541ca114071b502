#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/stability/spike_detector.h"

namespace sluice {

/// A value of a logged signal.
struct CurvePoint {
  int64_t step = 0;
  double value = 0;
};

/// Spikes that belong together.
struct SpikeEpisode {
  int64_t first_step = 0, last_step = 0;  ///< of its spikes
  int64_t peak_step = 0;
  double peak = 0;      ///< the largest value; one that is not finite is larger than all
  double baseline = 0;  ///< the level before it
  double score = 0;     ///< of its first spike
};

/// Joins spikes to episodes: one more than `episode_gap_steps` steps behind the last begins another.
class EpisodeFinder {
 public:
  explicit EpisodeFinder(const StabilityConfig& config);

  /// The reading of the next value. The episode that it belongs to is current() then.
  SpikeReading see(const CurvePoint& point);
  /// The episode that is not over yet, or none.
  const std::optional<SpikeEpisode>& current() const { return current_; }
  /// Of all values so far, the current one last.
  std::vector<SpikeEpisode> episodes() const;

 private:
  void join(const CurvePoint& point, const SpikeReading& reading);

  SpikeDetector detector_;
  int64_t gap_steps_;
  std::optional<SpikeEpisode> current_;
  std::vector<SpikeEpisode> over_;
};

}  // namespace sluice
