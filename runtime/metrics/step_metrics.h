#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace sluice {

/// What was measured in each layer, first layer first; empty when it was not measured or does not apply. Gates,
/// attention and activations are those of the step's first micro-step.
struct LayerMetrics {
  std::vector<double> gate_mean;                  ///< mean gate score, in [0, 1] for a sigmoid
  std::vector<double> first_token_attention;      ///< share of attention that goes to the first token
  std::vector<double> max_activation;             ///< largest |x| of the residual stream
  std::vector<double> expert_load_max_over_mean;  ///< tokens of the busiest expert over the mean; 1 is balanced
  std::vector<double> router_entropy;             ///< nats
  std::vector<double> grad_norm;
  std::vector<double> update_rms;               ///< of AdamW's update, before learning rate and decay
  std::vector<double> second_moment_staleness;  ///< root mean square of gradient over sqrt(second moment)
  std::vector<double> attention_logit_max;
  /// Of gates beside gate_mean, which is that of the configuration's first: gate_std, gate_below_0.1, gate_mean.G2 ...
  std::map<std::string, std::vector<double>> gates;
};

/// Gate scores of a layer in equal bins from 0 to 1; what lies outside is in the outer.
struct ScoreHistogram {
  std::string tag;                         ///< gate_scores/G1/layer_03
  std::vector<double> counts;              ///< of equal bins
  double lowest_bin = 0, highest_bin = 1;  ///< where they begin and end; what lies outside is in the outer
  double smallest = 0, largest = 0, sum = 0, sum_squares = 0;
};

/// One logged step. Losses are nats a token.
struct StepMetrics {
  int64_t step = 0;    ///< optimizer steps done
  int64_t tokens = 0;  ///< tokens trained on so far, over all ranks
  double loss = 0;     ///< what is minimised: LM loss and weighted auxiliary losses
  double lm_loss = 0;
  std::optional<double> balance_loss;  ///< mean over layers, without coefficient
  std::optional<double> z_loss;        ///< mean over layers, without coefficient
  double grad_norm = 0;                ///< global, before clipping
  double lr = 0;
  bool skipped = false;  ///< nothing was updated, since loss or grad_norm is not finite or above its limit
  double step_ms = 0;
  double tokens_per_s = 0;                  ///< over all ranks
  std::optional<double> mfu;                ///< model FLOPs over peak; see train_flops_per_token for what is counted
  std::optional<double> communication_ms;   ///< that rank 0 spent inside collective calls, waiting for others included
  std::map<std::string, double> eval_loss;  ///< by data set; empty when the step did not evaluate
  LayerMetrics layers;
  std::vector<ScoreHistogram> gate_scores;  ///< for TensorBoard
};

/// Calls visit(name, values) for every array of `layers` that is not empty, under its name in metrics.jsonl.
template <class Visit>
void for_each_layer_array(const LayerMetrics& layers, Visit&& visit) {
  const auto offer = [&](const char* name, const std::vector<double>& values) {
    if (!values.empty()) visit(name, values);
  };
  offer("gate_mean", layers.gate_mean);
  offer("first_token_attention", layers.first_token_attention);
  offer("max_activation", layers.max_activation);
  offer("expert_load_max_over_mean", layers.expert_load_max_over_mean);
  offer("router_entropy", layers.router_entropy);
  offer("grad_norm", layers.grad_norm);
  offer("update_rms", layers.update_rms);
  offer("second_moment_staleness", layers.second_moment_staleness);
  offer("attention_logit_max", layers.attention_logit_max);
  for (const auto& [name, values] : layers.gates) offer(name.c_str(), values);
}

/// Calls visit(name, value) for every scalar that applies, in the order of metrics.jsonl; tokens and step are not
/// among them.
template <class Visit>
void for_each_scalar(const StepMetrics& metrics, Visit&& visit) {
  const auto offer = [&](const char* name, const std::optional<double>& value) {
    if (value) visit(std::string(name), *value);
  };
  offer("loss", metrics.loss);
  offer("lm_loss", metrics.lm_loss);
  offer("balance_loss", metrics.balance_loss);
  offer("z_loss", metrics.z_loss);
  offer("grad_norm", metrics.grad_norm);
  offer("lr", metrics.lr);
  offer("step_ms", metrics.step_ms);
  offer("tokens_per_s", metrics.tokens_per_s);
  offer("mfu", metrics.mfu);
  offer("communication_ms", metrics.communication_ms);
  for (const auto& [set, loss] : metrics.eval_loss) visit("eval_loss." + set, loss);
}

}  // namespace sluice
