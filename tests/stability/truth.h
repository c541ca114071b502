#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/stability/episodes.h"

// What a detector of spikes is judged by: episodes that are found with the whole curve in view, by a threshold in nats.
namespace sluice {

struct TrueEpisode {
  size_t first = 0, last = 0;  ///< indices of its points
  double excess = 0;           ///< largest
};

/// Every value less the median of the 50 before it; 0 for the first 50.
inline std::vector<double> excesses(const std::vector<CurvePoint>& curve) {
  constexpr size_t kBefore = 50;
  std::vector<double> excess(curve.size());
  for (size_t i = kBefore; i < curve.size(); ++i) {
    std::vector<double> before;
    for (size_t j = i - kBefore; j < i; ++j) before.push_back(curve[j].value);
    std::sort(before.begin(), before.end());
    excess[i] = curve[i].value - (before[kBefore / 2 - 1] + before[kBefore / 2]) / 2;
  }
  return excess;
}

/// Points more than `nats` above that median from `first_step` on; those within 500 steps of each other are one.
inline std::vector<TrueEpisode> true_episodes(const std::vector<CurvePoint>& curve, double nats, int64_t first_step) {
  const std::vector<double> excess = excesses(curve);
  std::vector<TrueEpisode> episodes;
  for (size_t i = 0; i < curve.size(); ++i) {
    if (curve[i].step < first_step || !(excess[i] > nats)) continue;
    const bool joins = !episodes.empty() && curve[i].step - curve[episodes.back().last].step <= 500;
    if (!joins) episodes.push_back({i, i, 0});
    episodes.back().last = i;
    episodes.back().excess = std::max(episodes.back().excess, excess[i]);
  }
  return episodes;
}

struct Judgement {
  int64_t truths = 0, found = 0;
  int64_t reported = 0, false_reports = 0;
};

/// A true episode is found by a report of its own that starts between 5 points before its start and 3 after, and is at
/// most 1000 steps longer; a report whose points all stay within nats / 2 of the median is false.
inline Judgement judge(const std::vector<CurvePoint>& curve, const std::vector<SpikeEpisode>& reports, double nats,
                       int64_t first_step) {
  const std::vector<double> excess = excesses(curve);
  const auto index = [&](int64_t step) {
    const auto place = std::lower_bound(curve.begin(), curve.end(), step,
                                        [](const CurvePoint& point, int64_t at) { return point.step < at; });
    return static_cast<int64_t>(place - curve.begin());
  };
  Judgement result;
  std::vector<bool> used(reports.size());
  for (const TrueEpisode& truth : true_episodes(curve, nats, first_step)) {
    ++result.truths;
    for (size_t r = 0; r < reports.size(); ++r) {
      const int64_t late = index(reports[r].first_step) - static_cast<int64_t>(truth.first);
      const int64_t longer =
          reports[r].last_step - reports[r].first_step - (curve[truth.last].step - curve[truth.first].step);
      if (used[r] || late < -5 || late > 3 || longer > 1000) continue;
      used[r] = true;
      ++result.found;
      break;
    }
  }
  for (const SpikeEpisode& report : reports) {
    const auto first = excess.begin() + index(report.first_step), last = excess.begin() + index(report.last_step);
    ++result.reported;
    result.false_reports += *std::max_element(first, last + 1) <= nats / 2;
  }
  return result;
}

}  // namespace sluice
