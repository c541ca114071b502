#include "runtime/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sluice {

double learning_rate(const OptimizerConfig& o, int64_t steps, int64_t step) {
  const auto share = [](int64_t part, int64_t whole) { return static_cast<double>(part) / static_cast<double>(whole); };
  if (step <= o.warmup_steps()) return o.lr() * share(step, o.warmup_steps());
  switch (o.schedule()) {
    case OptimizerConfig::CONSTANT:
      return o.lr();
    case OptimizerConfig::WSD: {
      const int64_t left = steps - step;
      if (left >= o.decay_steps()) return o.lr();
      return o.min_lr() + (o.lr() - o.min_lr()) * share(left, o.decay_steps());
    }
    case OptimizerConfig::COSINE:
      break;
  }
  const double progress =
      share(std::min(step, steps) - o.warmup_steps(), std::max<int64_t>(steps - o.warmup_steps(), 1));
  return o.min_lr() + 0.5 * (o.lr() - o.min_lr()) * (1 + std::cos(std::numbers::pi * progress));
}

int64_t batch_size(const TrainingConfig& t, int64_t step) {
  for (const BatchRamp& ramp : t.batch_ramp()) {
    if (step < ramp.before_step()) return ramp.global_batch_size();
  }
  return t.global_batch_size();
}

int64_t samples_before(const TrainingConfig& t, int64_t step) {
  int64_t samples = 0, from = 1;
  for (const BatchRamp& ramp : t.batch_ramp()) {
    const int64_t to = std::min(step, ramp.before_step());
    if (to > from) samples += (to - from) * ramp.global_batch_size(), from = to;
  }
  return samples + std::max<int64_t>(step - from, 0) * t.global_batch_size();
}

}  // namespace sluice
