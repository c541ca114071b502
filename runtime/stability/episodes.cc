#include "runtime/stability/episodes.h"

#include <cmath>

namespace sluice {

EpisodeFinder::EpisodeFinder(const StabilityConfig& config)
    : detector_(config), gap_steps_(config.episode_gap_steps()) {}

SpikeReading EpisodeFinder::see(const CurvePoint& point) {
  const SpikeReading reading = detector_.see(point.value);
  if (current_ && point.step - current_->last_step > gap_steps_) {
    over_.push_back(*current_);
    current_.reset();
  }
  if (reading.spike) join(point, reading);
  return reading;
}

void EpisodeFinder::join(const CurvePoint& point, const SpikeReading& reading) {
  if (!current_) {
    current_ = {point.step, point.step, point.step, point.value, reading.baseline, reading.score};
    return;
  }
  current_->last_step = point.step;
  if (std::isfinite(current_->peak) && !(point.value <= current_->peak)) {
    current_->peak = point.value;
    current_->peak_step = point.step;
  }
}

std::vector<SpikeEpisode> EpisodeFinder::episodes() const {
  std::vector<SpikeEpisode> all = over_;
  if (current_) all.push_back(*current_);
  return all;
}

}  // namespace sluice
