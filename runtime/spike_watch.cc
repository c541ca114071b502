#include "runtime/spike_watch.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace sluice {

SpikeWatch::SpikeWatch(const StabilityConfig& config, const Mesh& mesh, TrainedModel& model)
    : model_(model), monitor_(config), indicators_(config), finder_(mesh, model.state, model.train_step) {
  model_.train_step.set_watch(&finder_);
}

void SpikeWatch::begin_step(Stream& s, bool parameters) {
  sees_parameters_ = parameters;
  model_.train_step.measure_updates(parameters);
  finder_.begin_step(s);
}

std::vector<SignalSpike> SpikeWatch::see(const StepMetrics& metrics, const StepResult& result) {
  std::vector<SignalSpike> spikes = monitor_.see(metrics.step, result.losses.lm_loss, result.grad_norm);
  if (result.skipped) {
    find_non_finite(spikes);
  } else {
    see_indicators(metrics, spikes);
  }
  return spikes;
}

void SpikeWatch::go_on_from(int64_t step, const StabilityState& state) {
  monitor_.restore(state);
  indicators_.go_back(step);
}

/// Adds to spikes of values that are not finite where that began.
void SpikeWatch::find_non_finite(std::vector<SignalSpike>& spikes) {
  const auto spoilt = [](const SignalSpike& spike) { return !std::isfinite(spike.value); };
  if (std::none_of(spikes.begin(), spikes.end(), spoilt)) return;
  const std::string where = finder_.where();
  if (where.empty()) return;
  auto told = std::find_if(spikes.begin(), spikes.end(), [&](const SignalSpike& spike) {
    return spoilt(spike) && spike.action == SignalPolicy::REWIND;
  });
  if (told == spikes.end()) told = std::find_if(spikes.begin(), spikes.end(), spoilt);
  told->meaning = "the first value that is not finite is " + where;
}

/// Adds what tells of trouble ahead.
void SpikeWatch::see_indicators(const StepMetrics& metrics, std::vector<SignalSpike>& spikes) {
  std::vector<IndicatorReading> readings = layer_readings(metrics.layers);
  if (sees_parameters_) {
    const std::vector<ParameterUpdate>& updates = model_.train_step.optimizer().parameter_updates();
    for (size_t i = 0; i < updates.size(); ++i) {
      const std::string& name = model_.state.records[i].name;
      readings.push_back({Indicator::kUpdateRms, name, updates[i].rms});
      readings.push_back({Indicator::kSecondMomentStaleness, name, updates[i].staleness});
    }
  }
  for (SignalSpike& spike : indicators_.see(metrics.step, readings)) spikes.push_back(std::move(spike));
}

}  // namespace sluice
