#include "runtime/stability/indicators.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/core/error.h"

namespace sluice {
namespace {

/// How an indicator is watched.
struct Watched {
  Indicator indicator;
  const char* name;
  enum Scale { kLogarithm, kLinear, kFalls } scale;  ///< what falls is watched from below
  const SignalPolicy& (IndicatorConfig::*policy)() const;
  const char* meaning;
};

const std::array<Watched, 8>& watched() {
  static const std::array<Watched, 8> all = {{
      {Indicator::kUpdateRms, "update_rms", Watched::kLogarithm, &IndicatorConfig::update_rms,
       "the optimizer takes larger steps there than it did; a smaller optimizer.lr or a longer optimizer.warmup_steps "
       "makes them smaller"},
      {Indicator::kSecondMomentStaleness, "second_moment_staleness", Watched::kLogarithm,
       &IndicatorConfig::second_moment_staleness,
       "gradients have grown faster than the second moment follows, so that steps become too large; "
       "optimizer.update_clip=1 or a smaller optimizer.beta2 helps"},
      {Indicator::kGradNorm, "grad_norm", Watched::kLogarithm, &IndicatorConfig::grad_norm,
       "the gradient of this layer alone has grown; its data, or a value in it, may be damaged"},
      {Indicator::kAttentionLogitMax, "attention_logit_max", Watched::kLinear, &IndicatorConfig::attention_logit_max,
       "attention is about to look at single tokens only; model.qk_norm or a smaller optimizer.lr keeps it from that"},
      {Indicator::kMaxActivation, "max_activation", Watched::kLogarithm, &IndicatorConfig::max_activation,
       "single channels of the residual grow; a gate behind attention (model.gates) or a smaller optimizer.lr keeps "
       "them "
       "small"},
      {Indicator::kFirstTokenAttention, "first_token_attention", Watched::kLinear,
       &IndicatorConfig::first_token_attention,
       "attention gathers at the first token; a gate behind it keeps it from that"},
      {Indicator::kRouterEntropy, "router_entropy", Watched::kFalls, &IndicatorConfig::router_entropy,
       "the router has become sure of its choice; model.moe.z_coef or model.moe.balance_coef may be too small"},
      {Indicator::kExpertLoad, "expert_load_max_over_mean", Watched::kLogarithm,
       &IndicatorConfig::expert_load_max_over_mean,
       "tokens crowd at few experts; model.moe.balance_coef or model.moe.selection_bias_rate may be too small"},
  }};
  return all;
}

const Watched& watched(Indicator indicator) { return watched().at(static_cast<size_t>(indicator)); }

double on_scale(Watched::Scale scale, double value) {
  switch (scale) {
    case Watched::kLogarithm:
      return std::log(std::max(value, std::numeric_limits<double>::min()));
    case Watched::kFalls:
      return -value;
    case Watched::kLinear:
      break;
  }
  return value;
}

double from_scale(Watched::Scale scale, double value) {
  return scale == Watched::kLogarithm ? std::exp(value) : scale == Watched::kFalls ? -value : value;
}

}  // namespace

const SignalPolicy& policy_of(const StabilityConfig& config, Indicator indicator) {
  return (config.indicators().*watched(indicator).policy)();
}

const char* name_of(Indicator indicator) { return watched(indicator).name; }

std::vector<Indicator> all_indicators() {
  std::vector<Indicator> all;
  for (const Watched& each : watched()) all.push_back(each.indicator);
  return all;
}

std::vector<IndicatorReading> layer_readings(const LayerMetrics& layers) {
  std::vector<IndicatorReading> readings;
  const auto add = [&](Indicator indicator, const std::vector<double>& values) {
    for (size_t i = 0; i < values.size(); ++i) readings.push_back({indicator, concat("layer ", i), values[i]});
  };
  add(Indicator::kGradNorm, layers.grad_norm);
  add(Indicator::kAttentionLogitMax, layers.attention_logit_max);
  add(Indicator::kMaxActivation, layers.max_activation);
  add(Indicator::kFirstTokenAttention, layers.first_token_attention);
  add(Indicator::kRouterEntropy, layers.router_entropy);
  add(Indicator::kExpertLoad, layers.expert_load_max_over_mean);
  return readings;
}

SpikeReading IndicatorMonitor::judge(const IndicatorReading& reading) {
  const std::pair key(reading.indicator, reading.where);
  auto at = detectors_.find(key);
  if (at == detectors_.end()) {
    StabilityConfig own = config_;
    const SignalPolicy& policy = policy_of(config_, reading.indicator);
    own.set_threshold(policy.has_threshold() ? policy.threshold() : config_.indicators().threshold());
    at = detectors_.emplace(key, SpikeDetector(own)).first;
  }
  return at->second.see(on_scale(watched(reading.indicator).scale, reading.value));
}

void IndicatorMonitor::go_back(int64_t step) {
  std::erase_if(last_spike_, [&](const auto& spike) { return spike.second > step; });
}

std::vector<SignalSpike> IndicatorMonitor::see(int64_t step, const std::vector<IndicatorReading>& readings) {
  std::map<Indicator, SignalSpike> worst;
  std::map<Indicator, int> places;
  for (const IndicatorReading& reading : readings) {
    // Of documents that are too short there is none.
    if (reading.indicator == Indicator::kFirstTokenAttention && std::isnan(reading.value)) continue;
    const SpikeReading judged = judge(reading);
    if (!judged.spike) continue;
    SignalSpike& spike = worst[reading.indicator];
    if (places[reading.indicator]++ > 0 && judged.score <= spike.reading.score) continue;
    const Watched& how = watched(reading.indicator);
    spike.signal = concat(how.name, " of ", reading.where);
    spike.value = reading.value;
    spike.limit = from_scale(how.scale, judged.limit);
    spike.reading = judged;
    spike.falls = how.scale == Watched::kFalls;
    spike.meaning = how.meaning;
    spike.action = policy_of(config_, reading.indicator).action();
  }
  std::vector<SignalSpike> spikes;
  for (auto& [indicator, spike] : worst) {
    const auto last = last_spike_.find(indicator);
    spike.first = last == last_spike_.end() || step - last->second > config_.episode_gap_steps();
    last_spike_[indicator] = step;
    if (places[indicator] > 1) spike.signal += concat(" (and ", places[indicator] - 1, " more)");
    spikes.push_back(std::move(spike));
  }
  return spikes;
}

}  // namespace sluice
