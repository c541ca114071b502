#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/metrics/step_metrics.h"
#include "runtime/stability/monitor.h"

namespace sluice {

/// What tells of trouble in a part of the model before the loss does.
enum class Indicator {
  kUpdateRms,
  kSecondMomentStaleness,
  kGradNorm,
  kAttentionLogitMax,
  kMaxActivation,
  kFirstTokenAttention,
  kRouterEntropy,
  kExpertLoad,
};

/// Of one layer or parameter, in a step.
struct IndicatorReading {
  Indicator indicator;
  std::string where;  ///< "layer 3", or the name of a parameter
  double value = 0;
};

/// Those that the metrics of a step have of its layers; of update_rms and second_moment_staleness none, which
/// parameters have.
std::vector<IndicatorReading> layer_readings(const LayerMetrics& layers);

/// Watches indicators, each place by its own past, as the loss is. Of an indicator that leaves its range in several
/// places the farthest is told.
class IndicatorMonitor {
 public:
  explicit IndicatorMonitor(const StabilityConfig& config) : config_(config) {}

  /// What has left its range in a step, at most one of each indicator, with what it means. Of a skipped update nothing
  /// is to be seen. Ranks that see the same come to the same results.
  std::vector<SignalSpike> see(int64_t step, const std::vector<IndicatorReading>& readings);
  /// The run goes back to a step: later spikes were not. What is in range stays known.
  void go_back(int64_t step);

 private:
  SpikeReading judge(const IndicatorReading& reading);

  const StabilityConfig config_;
  std::map<std::pair<Indicator, std::string>, SpikeDetector> detectors_;
  std::map<Indicator, int64_t> last_spike_;
};

/// The policy of an indicator in the schema.
const SignalPolicy& policy_of(const StabilityConfig& config, Indicator indicator);
/// Of the schema: update_rms.
const char* name_of(Indicator indicator);
/// All of them.
std::vector<Indicator> all_indicators();

}  // namespace sluice
