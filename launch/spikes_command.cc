#include "launch/spikes_command.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/config.h"
#include "runtime/stability/curve_file.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

nlohmann::ordered_json episodes_json(const std::vector<SpikeEpisode>& episodes) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const SpikeEpisode& e : episodes) {
    list.push_back({{"first_step", e.first_step},
                    {"last_step", e.last_step},
                    {"peak_step", e.peak_step},
                    {"peak_loss", e.peak},
                    {"baseline_loss", e.baseline},
                    {"score", e.score}});
  }
  return {{"episodes", list}};
}

void print_table(const std::vector<SpikeEpisode>& episodes, size_t points) {
  if (!episodes.empty()) {
    fmt::print("{:>12} {:>12} {:>12} {:>11} {:>14} {:>8}\n", "first step", "last step", "peak step", "peak loss",
               "baseline loss", "score");
  }
  for (const SpikeEpisode& e : episodes) {
    fmt::print("{:>12} {:>12} {:>12} {:>11.4f} {:>14.4f} {:>8.1f}\n", e.first_step, e.last_step, e.peak_step, e.peak,
               e.baseline, e.score);
  }
  fmt::print("{} episodes in {} values\n", episodes.size(), points);
}

}  // namespace

void run_spikes(const SpikesOptions& options) {
  StabilityConfig stability = parse_config("", "--set", options.overrides).stability();
  validate_stability(stability);
  if (stability.lm_loss().has_threshold()) stability.set_threshold(stability.lm_loss().threshold());
  const std::vector<CurvePoint> curve = read_curve(options.curve);
  EpisodeFinder finder(stability);
  for (const CurvePoint& point : curve) finder.see(point);
  const std::vector<SpikeEpisode> episodes = finder.episodes();
  if (options.json) {
    fmt::print("{}\n", episodes_json(episodes).dump());
  } else {
    print_table(episodes, curve.size());
  }
}

}  // namespace sluice
