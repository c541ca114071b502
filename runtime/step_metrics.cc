#include "runtime/step_metrics.h"

#include "runtime/schedule.h"

namespace sluice {

StepMetrics step_metrics(const TrainConfig& config, int64_t step, double lr, const StepResult& result) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.tokens = samples_before(config.training(), step + 1) * config.training().sequence_length();
  metrics.loss = result.losses.loss;
  metrics.lm_loss = result.losses.lm_loss;
  if (config.model().has_moe()) {
    metrics.balance_loss = result.losses.balance_loss;
    metrics.z_loss = result.losses.z_loss;
  }
  metrics.grad_norm = result.grad_norm;
  metrics.lr = lr;
  metrics.skipped = result.skipped;
  metrics.layers.expert_load_max_over_mean = result.expert_load_max_over_mean;
  metrics.layers.router_entropy = result.router_entropy;
  metrics.layers.grad_norm = result.layer_grad_norm;
  metrics.layers.update_rms = result.layer_update_rms;
  metrics.layers.second_moment_staleness = result.layer_staleness;
  return metrics;
}

}  // namespace sluice
