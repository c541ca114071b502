#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// A row of probabilities must fit into a worker's workspace.
inline constexpr int64_t kMaxExperts = ThreadPool::kWorkspaceBytes / 8;

/// Softmax top-k routing. Selection is by descending probability plus bias, ties to the lower expert.
///   logits   [tokens, experts]  f32 | f64
///   bias     [experts]          dtype of logits, added for the selection only [wang2024 eq. 2]; empty: 0
///   probs    [tokens, experts]  out, softmax over all experts; may alias logits
///   lse      [tokens]           out, log-sum-exp of the logits
///   indices  [tokens, top_k] i32  out, chosen experts, best first
///   weights  [tokens, top_k]    out, dtype of logits: their probabilities, divided by their sum when `normalize`
///   counts   [experts] i64      out, tokens of this call that chose each expert
/// Throws Error on a shape or dtype mismatch or top_k > experts.
void router_forward(Stream& s, Tensor logits, Tensor bias, bool normalize, Tensor probs, Tensor lse, Tensor indices,
                    Tensor weights, Tensor counts);

/// Balance without a loss [wang2024 alg. 1]: bias[i] += rate * sign(mean of counts - counts[i]).
///   counts [experts] i64, bias [experts] in/out f32 | f64
void update_selection_bias(Stream& s, Tensor counts, double rate, Tensor bias);

/// Gradient of the logits from the weights, the balance loss and the z-loss (paper section 4.1).
struct RouterGradient {
  Tensor dweights;          ///< [tokens, top_k]
  Tensor probs;             ///< [tokens, experts] of router_forward
  Tensor lse;               ///< [tokens]
  Tensor indices;           ///< [tokens, top_k] i32
  Tensor weights;           ///< [tokens, top_k]
  Tensor balance_gradient;  ///< [experts], dtype of probs: d(total loss) / d(prob of expert i of any token)
  double z_gradient = 0;    ///< d(total loss) / d(sum over tokens of lse^2)
  bool normalize = false;   ///< as in forward
};
///   dlogits  [tokens, experts]  out, may alias probs
void router_backward(Stream& s, const RouterGradient& in, Tensor dlogits);

/// Sums over tokens that the losses and the log need, in f64 and in a fixed order.
///   prob_sums  [experts] f64  out, sum of probs
///   moments    [2] f64        out, {sum of lse^2, sum of the entropy of a token's probs}
void router_sums(Stream& s, Tensor probs, Tensor lse, Tensor prob_sums, Tensor moments);

}  // namespace sluice
