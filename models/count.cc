#include "models/count.h"

#include <algorithm>

#include "models/parameters.h"

namespace sluice {

ParameterCount count_parameters(const ModelConfig& config) {
  ParameterCount count;
  for (const ParameterRecord& r : parameter_records(config)) {
    count.total += r.global_count();
    const bool expert = r.replicas == Replicas::kEdp;
    count.active += expert ? r.global_count() / config.moe().num_experts() * config.moe().top_k() : r.global_count();
  }
  return count;
}

void match_parameters(ModelConfig& config) {
  const int64_t multiple = config.ffn_parity_multiple();
  config.clear_ffn_parity_multiple();
  if (multiple == 0) return;
  ModelConfig plain = config;
  plain.clear_gates();
  const int64_t width = config.has_moe() ? config.moe().moe_intermediate_size() : config.intermediate_size();
  const int64_t a_channel =
      3 * config.hidden_size() * config.num_layers() * (config.has_moe() ? config.moe().num_experts() : 1);
  const int64_t added = count_parameters(config).total - count_parameters(plain).total;
  // Whole channels that the gates are worth; what is left of them is rounded up.
  const int64_t narrow = std::min(width, (width - added / a_channel + multiple - 1) / multiple * multiple);
  ENSURE(added / a_channel < width, "model.ffn_parity_multiple: the gates add ", added,
         " parameters, more than the feed-forward layers have");
  if (config.has_moe())
    config.mutable_moe()->set_moe_intermediate_size(narrow);
  else
    config.set_intermediate_size(narrow);
}

double train_flops_per_token(const ModelConfig& config, int64_t sequence_length) {
  double weights = 0;
  for (const ParameterRecord& r : parameter_records(config)) {
    if (r.global_shape.size() < 2) continue;
    const bool look_up_only = r.name == "model.embed_tokens.weight" && !config.tie_word_embeddings();
    if (look_up_only) continue;
    const double share = r.replicas == Replicas::kEdp ? static_cast<double>(config.moe().top_k()) /
                                                            static_cast<double>(config.moe().num_experts())
                                                      : 1.0;
    weights += share * static_cast<double>(r.global_count());
  }
  // q k^T and p v: 2 * 2 * width operations a query and key, half of the keys visible, times 3 for backward.
  const double attention = 6.0 * static_cast<double>(config.num_layers() * config.num_attention_heads() *
                                                     config.head_dim() * sequence_length);
  return 6.0 * weights + attention;
}

}  // namespace sluice
