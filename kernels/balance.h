#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Load-balancing loss of one MoE layer [qiu2025b eq. 2-6], for the tokens of one call:
/// loss += per_token * experts * sum_i f_i * prob_sums_i, with f_i = counts_i / sum(counts), no gradient through f.
///   counts     [experts] i64  assignments that define the shares; may come from more tokens than this call's
///   prob_sums  [experts] f64  sums of the router's probabilities over this call's tokens
///   gradient   [experts] f32 | f64  out, coef * d(loss) / d(probability of expert i of any token)
///   loss       [1] f64        in/out, added to
/// per_token is one over the number of tokens that the loss is a mean over. Throws Error on a shape or dtype mismatch.
void balance_loss(Stream& s, Tensor counts, Tensor prob_sums, double per_token, double coef, Tensor gradient,
                  Tensor loss);

/// total += counts, exactly.   [n] i64 each
void add_counts(Stream& s, Tensor counts, Tensor total);

}  // namespace sluice
