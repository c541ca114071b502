#include "launch/analysis/lr_sweep.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>

namespace sluice {
namespace {

constexpr double kLevel = 0.95;

using Runs = std::vector<const ReportedRun*>;
using RunsByLr = std::map<double, Runs>;

Interval interval_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const double last = static_cast<double>(samples.size() - 1);
  return {samples[static_cast<size_t>(std::lround(last * (1 - kLevel) / 2))],
          samples[static_cast<size_t>(std::lround(last * (1 + kLevel) / 2))]};
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

template <class T>
std::vector<T> sample(const std::vector<T>& from, std::mt19937_64& random) {
  std::uniform_int_distribution<size_t> pick(0, from.size() - 1);
  std::vector<T> out;
  for (size_t i = 0; i < from.size(); ++i) out.push_back(from[pick(random)]);
  return out;
}

/// Around its loss, by the scatter of what it logged in its last tenth, but skipped steps.
Interval bar_of(const ReportedRun& run, int draws, std::mt19937_64& random) {
  const auto& steps = run.run.steps;
  std::vector<double> losses;
  for (size_t i = steps.size() - std::max<size_t>(1, steps.size() / 10); i < steps.size(); ++i) {
    if (!steps[i].skipped && std::isfinite(steps[i].lm_loss)) losses.push_back(steps[i].lm_loss);
  }
  if (losses.empty()) return {run.run.loss, run.run.loss};
  const double middle = mean(losses);
  std::vector<double> samples;
  for (int i = 0; i < draws; ++i) samples.push_back(run.run.loss + mean(sample(losses, random)) - middle);
  return interval_of(std::move(samples));
}

/// Of runs that did not diverge and have a value; none: there are none.
template <class Get>
std::optional<double> mean_of(const Runs& runs, const Get& get) {
  std::vector<double> values;
  for (const ReportedRun* run : runs) {
    if (const std::optional<double>& value = get(*run); value && !run->run.diverged) values.push_back(*value);
  }
  return values.empty() ? std::nullopt : std::optional(mean(values));
}

LrPoint point_of(double lr, const Runs& runs, int draws, std::mt19937_64& random) {
  LrPoint point;
  point.lr = lr;
  point.runs = static_cast<int64_t>(runs.size());
  std::vector<double> losses;
  const ReportedRun* whole = nullptr;
  for (const ReportedRun* run : runs) {
    point.diverged += run->run.diverged;
    if (run->spikes_known) point.spikes = point.spikes.value_or(0) + static_cast<double>(run->spikes.size());
    if (run->run.diverged) continue;
    losses.push_back(run->run.loss);
    whole = run;
  }
  point.first_token_attention = mean_of(
      runs, [](const ReportedRun& r) -> auto& { return r.first_token_attention; });
  point.max_activation = mean_of(
      runs, [](const ReportedRun& r) -> auto& { return r.max_activation; });
  point.loss = losses.empty() ? std::numeric_limits<double>::quiet_NaN() : mean(losses);
  if (losses.empty()) {
    point.bar = {point.loss, point.loss};
  } else if (losses.size() == 1) {
    point.bar = bar_of(*whole, draws, random);
  } else {
    const auto [low, high] = std::minmax_element(losses.begin(), losses.end());
    point.bar = {*low, *high};
  }
  return point;
}

/// The loss of a run in the mean over learning rates.
double bounded_loss(const ReportedRun& run) {
  return run.run.diverged ? run.first_loss() : std::min(run.run.loss, run.first_loss());
}

/// The mean over learning rates of the runs' mean loss, less the least of them.
double sensitivity_of(const RunsByLr& by_lr) {
  double sum = 0, best = std::numeric_limits<double>::infinity();
  for (const auto& [lr, runs] : by_lr) {
    std::vector<double> losses;
    for (const ReportedRun* run : runs) losses.push_back(bounded_loss(*run));
    sum += mean(losses);
    best = std::min(best, mean(losses));
  }
  return sum / static_cast<double>(by_lr.size()) - best;
}

std::optional<Interval> sensitivity_interval(const RunsByLr& by_lr, int draws, std::mt19937_64& random) {
  bool seeds = false;
  for (const auto& [lr, runs] : by_lr) seeds = seeds || runs.size() > 1;
  if (!seeds) return std::nullopt;
  std::vector<double> samples;
  for (int i = 0; i < draws; ++i) {
    RunsByLr drawn;
    for (const auto& [lr, runs] : by_lr) drawn[lr] = sample(runs, random);
    samples.push_back(sensitivity_of(drawn));
  }
  return interval_of(std::move(samples));
}

LrSweep sweep_of(const std::string& variant, const RunsByLr& by_lr, int draws, std::mt19937_64& random) {
  LrSweep sweep;
  sweep.variant = variant;
  size_t best = 0;
  for (const auto& [lr, runs] : by_lr) {
    sweep.points.push_back(point_of(lr, runs, draws, random));
    const LrPoint& point = sweep.points.back();
    sweep.runs += point.runs;
    sweep.diverged += point.diverged;
    if (point.spikes) sweep.spikes = sweep.spikes.value_or(0) + *point.spikes;
    if (point.diverged == 0 && (!sweep.best_loss || point.loss < *sweep.best_loss)) {
      sweep.best_loss = point.loss;
      best = sweep.points.size() - 1;
    }
  }
  if (sweep.diverged == sweep.runs) return sweep;
  if (sweep.best_loss) sweep.best_lr = sweep.points[best].lr;
  for (size_t i = best; sweep.best_loss && i < sweep.points.size(); ++i) {
    const LrPoint& point = sweep.points[i];
    if (point.diverged > 0 || point.loss > *sweep.best_loss + kStableExcess) break;
    sweep.highest_stable_lr = point.lr;
  }
  sweep.sensitivity = sensitivity_of(by_lr);
  sweep.sensitivity_interval = sensitivity_interval(by_lr, draws, random);
  return sweep;
}

}  // namespace

std::vector<LrSweep> lr_sweeps(const std::vector<ReportedRun>& runs, uint64_t seed, int draws) {
  constexpr size_t kFewestRates = 3;
  std::mt19937_64 random(seed);
  std::vector<LrSweep> sweeps;
  for (const std::string& variant : variants_of(runs)) {
    RunsByLr by_lr;
    for (const ReportedRun& run : runs) {
      if (run.variant == variant && !run.run.steps.empty() && (run.finished() || run.run.diverged)) {
        by_lr[run.lr()].push_back(&run);
      }
    }
    if (by_lr.size() < kFewestRates) continue;
    sweeps.push_back(sweep_of(variant, by_lr, draws, random));
  }
  return sweeps;
}

}  // namespace sluice
