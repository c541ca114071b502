#pragma once

#include <vector>

#include "runtime/non_finite.h"
#include "runtime/stability/indicators.h"
#include "runtime/stability/monitor.h"
#include "runtime/trained_model.h"

namespace sluice {

/// What speaks against the steps of a run: values that their signal's past does not explain, in the whole or in a part
/// of the model, and where those that are not finite came up. Every rank of the mesh makes the same calls.
class SpikeWatch {
 public:
  /// Watches the steps of `model` from now on. All must outlive the watch.
  SpikeWatch(const StabilityConfig& config, const Mesh& mesh, TrainedModel& model);

  /// Before a step, whose updates are to be seen parameter by parameter or not.
  void begin_step(Stream& s, bool parameters);
  /// For the update of the step that begins.
  UpdateLimits limits() const { return {monitor_.skip_limit_of_loss(), monitor_.skip_limit_of_grad_norm()}; }
  /// After the step: what speaks against it, the same on every rank.
  std::vector<SignalSpike> see(const StepMetrics& metrics, const StepResult& result);

  /// What the signals of the whole model have learnt.
  StabilityState state() const { return monitor_.state(); }
  /// The run goes on from a step with what was learnt until then. Throws what StabilityMonitor does.
  void go_on_from(int64_t step, const StabilityState& state);

 private:
  void find_non_finite(std::vector<SignalSpike>& spikes);
  void see_indicators(const StepMetrics& metrics, std::vector<SignalSpike>& spikes);

  TrainedModel& model_;
  StabilityMonitor monitor_;
  IndicatorMonitor indicators_;
  NonFiniteFinder finder_;
  bool sees_parameters_ = false;
};

}  // namespace sluice
