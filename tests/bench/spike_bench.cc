// Judges the detector of spikes, and two rules of other trainers, on logged losses:
//   spike_bench CURVE.csv...
// Each curve as it is, every second and every fourth point of it, and with its residuals scaled by 0.3 and by 3. True
// episodes are those of tests/stability/truth.h above 0.1 nats, scaled alike, from step 5000 on. Exit code 1 when the
// detector finds less than 95 % of them somewhere, or more than two false ones.
#include <cmath>
#include <cstdio>
#include <deque>
#include <functional>
#include <numeric>
#include <string>

#include "runtime/stability/curve_file.h"
#include "tests/stability/truth.h"

namespace sluice {
namespace {

constexpr double kNats = 0.1;
constexpr int64_t kFirstStep = 5000, kGapSteps = 100;

/// Whether a value is a spike, given those before it.
using Rule = std::function<bool(double value)>;

struct Moments {
  double mean, deviation;
};
Moments moments_of(const std::deque<double>& values) {
  const double count = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / (count - 1))};
}

/// OLMo-core's: above the mean of the last 128 values by 6 of their standard deviations, once there are 64.
Rule six_sigma() {
  return [values = std::deque<double>()](double value) mutable {
    bool spike = false;
    if (values.size() >= 64) {
      const Moments before = moments_of(values);
      spike = value > before.mean + 6 * before.deviation;
    }
    values.push_back(value);
    if (values.size() > 128) values.pop_front();
    return spike;
  };
}

/// llm.c's: a z-score above 7, as its scripts have it, among the last 128 values, itself included.
Rule z_score() {
  return [values = std::deque<double>()](double value) mutable {
    values.push_back(value);
    if (values.size() > 128) values.pop_front();
    if (values.size() < 128) return false;
    const Moments all = moments_of(values);
    return value > all.mean + 7 * all.deviation;
  };
}

std::vector<SpikeEpisode> episodes_of(const std::vector<CurvePoint>& curve, Rule rule) {
  std::vector<SpikeEpisode> episodes;
  for (const CurvePoint& point : curve) {
    if (!rule(point.value)) continue;
    if (episodes.empty() || point.step - episodes.back().last_step > kGapSteps) {
      episodes.push_back({point.step, point.step, point.step, point.value, 0, 0});
    }
    episodes.back().last_step = point.step;
  }
  return episodes;
}

std::vector<SpikeEpisode> our_episodes(const std::vector<CurvePoint>& curve) {
  EpisodeFinder finder{StabilityConfig()};
  for (const CurvePoint& point : curve) finder.see(point);
  return finder.episodes();
}

std::vector<CurvePoint> every(size_t stride, const std::vector<CurvePoint>& curve) {
  std::vector<CurvePoint> points;
  for (size_t i = 0; i < curve.size(); i += stride) points.push_back(curve[i]);
  return points;
}

std::vector<CurvePoint> scaled(double factor, std::vector<CurvePoint> curve) {
  const std::vector<double> excess = excesses(curve);
  for (size_t i = 0; i < curve.size(); ++i) curve[i].value += (factor - 1) * excess[i];
  return curve;
}

void print(const char* rule, const Judgement& judgement) {
  std::printf("  %-10s found %3lld of %3lld, reported %4lld, false %3lld\n", rule,
              static_cast<long long>(judgement.found), static_cast<long long>(judgement.truths),
              static_cast<long long>(judgement.reported), static_cast<long long>(judgement.false_reports));
}

/// Whether the detector is good enough.
bool judge_rules(const std::string& title, const std::vector<CurvePoint>& curve, double nats) {
  std::printf("%s, %zu points\n", title.c_str(), curve.size());
  const Judgement own = judge(curve, our_episodes(curve), nats, kFirstStep);
  print("sluice", own);
  print("6 sigma", judge(curve, episodes_of(curve, six_sigma()), nats, kFirstStep));
  print("z-score", judge(curve, episodes_of(curve, z_score()), nats, kFirstStep));
  return static_cast<double>(own.found) >= 0.95 * static_cast<double>(own.truths) && own.false_reports <= 2;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  using namespace sluice;
  bool good = argc > 1;
  for (int i = 1; i < argc; ++i) {
    const std::string path = argv[i];
    const std::vector<CurvePoint> curve = read_curve(path);
    good &= judge_rules(path, curve, kNats);
    good &= judge_rules("every second point", every(2, curve), kNats);
    good &= judge_rules("every fourth point", every(4, curve), kNats);
    good &= judge_rules("residuals x 0.3", scaled(0.3, curve), 0.3 * kNats);
    good &= judge_rules("residuals x 3", scaled(3, curve), 3 * kNats);
  }
  return good ? 0 : 1;
}
