#include "runtime/stability/monitor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/error.h"

namespace sluice {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();

StabilityConfig with_threshold(StabilityConfig config, const SignalPolicy& policy) {
  if (policy.has_threshold()) config.set_threshold(policy.threshold());
  return config;
}

}  // namespace

std::string SignalSpike::in_words() const {
  std::string words = concat(signal, " is ", std::isnan(value) ? "nan" : "inf");
  if (std::isfinite(value)) {
    const double asked = (reading.limit - reading.trend) / reading.noise;
    words = concat(signal, " ", value, " is ", reading.score, " deviations ", falls ? "below" : "above", " its trend; ",
                   asked, " or ", limit, " are the limit");
  }
  return meaning.empty() ? words : concat(words, ": ", meaning);
}

StabilityMonitor::StabilityMonitor(const StabilityConfig& config)
    : loss_("lm_loss", config.lm_loss(), config, false), grad_norm_("grad_norm", config.grad_norm(), config, true) {}

std::vector<SignalSpike> StabilityMonitor::see(int64_t step, double lm_loss, double grad_norm) {
  std::vector<SignalSpike> spikes;
  loss_.see(step, lm_loss, spikes);
  grad_norm_.see(step, grad_norm, spikes);
  return spikes;
}

StabilityState StabilityMonitor::state() const {
  StabilityState state;
  for (const Signal* signal : {&loss_, &grad_norm_}) {
    SignalState& own = *state.add_signals();
    own = signal->detector().state();
    own.set_name(signal->name());
  }
  return state;
}

void StabilityMonitor::restore(const StabilityState& state) {
  for (Signal* signal : {&loss_, &grad_norm_}) {
    signal->forget_episode();
    for (const SignalState& own : state.signals()) {
      if (own.name() == signal->name()) signal->detector().restore(own);
    }
  }
}

StabilityMonitor::Signal::Signal(const char* name, const SignalPolicy& policy, StabilityConfig config, bool logarithm)
    : name_(name),
      action_(policy.action()),
      logarithm_(logarithm),
      gap_steps_(config.episode_gap_steps()),
      detector_(with_threshold(std::move(config), policy)) {}

double StabilityMonitor::Signal::limit() const {
  return std::min(logarithm_ ? std::exp(detector_.limit()) : detector_.limit(), kLargest);
}

double StabilityMonitor::Signal::skip_limit() const { return action_ == SignalPolicy::LOG ? kLargest : limit(); }

void StabilityMonitor::Signal::see(int64_t step, double value, std::vector<SignalSpike>& spikes) {
  SignalSpike spike;
  spike.limit = limit();
  // A norm of 0 is far below all that matters.
  spike.reading = detector_.see(logarithm_ ? std::log(std::max(value, std::numeric_limits<double>::min())) : value);
  // As the update was judged: the logarithm may round to the other side.
  if (value <= spike.limit) return;
  spike.signal = name_;
  spike.value = value;
  spike.action = action_;
  spike.first = !last_spike_ || step - *last_spike_ > gap_steps_;
  last_spike_ = step;
  spikes.push_back(std::move(spike));
}

}  // namespace sluice
