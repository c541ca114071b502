#pragma once

#include "kernels/attention.h"
#include "kernels/gate.h"

namespace sluice {

// What is measured on activations as they pass; all results are f64 and are added to, so that those of several batches
// and ranks add up.

/// Attention that goes to the first key of each document, from lse, without the [queries, keys] matrix.
///   in    as attention_forward read it; v is not needed
///   lse   [query_tokens, query_heads]  as it returned it
///   skip  queries at positions below are left out of the first mean
///   sink_span  the second mean takes the queries at positions 1..sink_span
///   sums  [query_heads, 4] f64  in/out: sum of probabilities and number of queries, for either mean
/// Throws Error on a shape or dtype mismatch.
void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t skip, int64_t sink_span, Tensor sums);

/// Attention among the first positions of each document, from lse: what first_key_attention sees of one key, of all.
///   in    as attention_forward read it, queries and keys of the same tokens; v is not needed
///   lse   [tokens, query_heads]  as it returned it
///   map   [positions, positions] f64  in/out: row i, column j: sum over heads and documents of the probability that
///         a query at position i gives the key at position j
///   rows  [positions] f64             in/out: heads times documents that row i sums over
/// Throws Error on a shape or dtype mismatch.
void attention_map(Stream& s, const AttentionInput& in, Tensor lse, Tensor map, Tensor rows);

/// Places in the sums of score_sums; the histogram has kScoreBins equal bins from 0 to 1, what lies outside in the
/// outer.
enum ScoreSum : int64_t {
  kScoreCount,
  kScoreTotal,
  kScoreSquares,
  kScoresBelowTenth,
  kScoresBelowHalf,
  kScoreHistogram
};
inline constexpr int64_t kScoreBins = 20;
inline constexpr int64_t kScoreSums = kScoreHistogram + kScoreBins;

/// Scores of a gate from its logits.
///   z         any shape, f32 | f64
///   sums      [kScoreSums] f64  in/out
///   extremes  [2] f64           in/out, raised to the largest score and the largest negated score
/// Throws Error on a shape or dtype mismatch.
void score_sums(Stream& s, GateActivation activation, Tensor z, Tensor sums, Tensor extremes);

/// Places in the sums of magnitude_sums.
enum MagnitudeSum : int64_t { kMagnitudeCount, kMagnitudeTotal, kBelowHundredth, kBelowThousandth, kMagnitudeSums };

/// Magnitudes of factor * x.
///   x     any shape, f32 | f64
///   sums  [kMagnitudeSums] f64  in/out
void magnitude_sums(Stream& s, Tensor x, double factor, Tensor sums);

}  // namespace sluice
