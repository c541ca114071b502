#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "runtime/stability/spike_detector.h"

namespace sluice {

/// A value of a step that its signal's past does not explain.
struct SignalSpike {
  std::string signal;  ///< lm_loss or grad_norm, or an indicator and where
  double value = 0, limit = 0;
  SpikeReading reading;  ///< of what is watched: of a gradient norm its logarithm
  SignalPolicy::Action action = SignalPolicy::LOG;
  bool first = false;   ///< of its episode
  bool falls = false;   ///< what is watched is below its trend
  std::string meaning;  ///< in plain words; empty: its name says it

  /// Whether it keeps its step from being an update.
  bool skips() const { return action != SignalPolicy::LOG || !std::isfinite(value); }
  /// "lm_loss 9.31 is 41.2 deviations above its trend; 6.6 or 2.41 are the limit".
  std::string in_words() const;
};

/// Watches the signals of a run that every step has. All ranks see the same values and come to the same results.
class StabilityMonitor {
 public:
  explicit StabilityMonitor(const StabilityConfig& config);

  /// Above it the update of a signal's next value is not made; the largest number when its policy is to log.
  double skip_limit_of_loss() const { return loss_.skip_limit(); }
  double skip_limit_of_grad_norm() const { return grad_norm_.skip_limit(); }

  /// The spikes among the values of a step, which the limits were asked for before.
  std::vector<SignalSpike> see(int64_t step, double lm_loss, double grad_norm);

  /// What it has learnt, and to go on with that. Signals that are not among it start anew. Throws Error when a value is
  /// not finite.
  StabilityState state() const;
  void restore(const StabilityState& state);

 private:
  class Signal {
   public:
    Signal(const char* name, const SignalPolicy& policy, StabilityConfig config, bool logarithm);
    const char* name() const { return name_; }
    double skip_limit() const;
    void see(int64_t step, double value, std::vector<SignalSpike>& spikes);
    void forget_episode() { last_spike_.reset(); }
    SpikeDetector& detector() { return detector_; }
    const SpikeDetector& detector() const { return detector_; }

   private:
    /// Of the values themselves.
    double limit() const;

    const char* name_;
    SignalPolicy::Action action_;
    bool logarithm_;
    int64_t gap_steps_;
    SpikeDetector detector_;
    std::optional<int64_t> last_spike_;
  };

  Signal loss_, grad_norm_;
};

}  // namespace sluice
