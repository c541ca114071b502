#pragma once

#include <cstdint>

#include "configs/train.pb.h"

namespace sluice {

/// Parameters of a configuration (paper section 3.1).
struct ParameterCount {
  int64_t total = 0;
  int64_t active = 0;  ///< that one token uses: top_k of num_experts experts; both embeddings included
};
ParameterCount count_parameters(const ModelConfig& config);

/// Carries out ffn_parity_multiple: the width of the feed-forward layers (of the experts, with moe) becomes the least
/// multiple with which the model has at least the parameters that it has at the given width without gates, but never
/// wider than given; and the field is cleared. Throws Error when the gates add more than the feed-forward layers have.
void match_parameters(ModelConfig& config);

/// Floating-point operations of training (forward and backward) a token: 6 for every active weight of a matrix product
/// and the causal half of attention's; the embedding look-up counts nothing. Attention is counted as if a sequence were
/// one document: where it is cut into short ones less is computed, and a speed derived from this exceeds the real one.
double train_flops_per_token(const ModelConfig& config, int64_t sequence_length);

}  // namespace sluice
