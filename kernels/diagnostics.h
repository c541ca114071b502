#pragma once

#include "kernels/attention.h"
#include "kernels/gate.h"

namespace sluice {

// What is measured on activations as they pass; all results are f64 and are added to, so that those of several batches
// and ranks add up.

/// Places in the sums of first_key_attention: of the queries that count, the probabilities, what they would be if
/// attention were uniform, and their number; of those that a sink is taken from, probabilities and number.
enum FirstKeySum : int64_t {
  kFirstKeyTotal,
  kFirstKeyUniform,
  kFirstKeyQueries,
  kSinkTotal,
  kSinkQueries,
  kFirstKeySums
};

/// Attention that goes to the first key of each document, from lse, without the [queries, keys] matrix.
///   in    as attention_forward read it; v is not needed
///   lse   [query_tokens, query_heads]  as it returned it
///   every  of each `every` queries the first one is taken
///   skip  queries at positions below do not count
///   sink_span  sinks are taken from the queries at positions 1..sink_span of documents that have them all, since the
///              first key of a short document gets much of even uniform attention
///   sums  [query_heads, kFirstKeySums] f64  in/out
/// Throws Error on a shape or dtype mismatch.
void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t every, int64_t skip,
                         int64_t sink_span, Tensor sums);

/// Attention among the first positions of each document, from lse: what first_key_attention sees of one key, of all.
///   in    as attention_forward read it, queries and keys of the same tokens; v is not needed
///   lse   [tokens, query_heads]  as it returned it
///   map   [positions, positions] f64  in/out: row i, column j: sum over heads and documents of the probability that
///         a query at position i gives the key at position j
///   rows  [positions] f64             in/out: heads times documents that row i sums over
/// Throws Error on a shape or dtype mismatch.
void attention_map(Stream& s, const AttentionInput& in, Tensor lse, Tensor map, Tensor rows);

/// Places in the sums of score_sums; the histogram has kScoreBins equal bins over a range, what lies outside in the
/// outer.
enum ScoreSum : int64_t {
  kScoreCount,
  kScoreTotal,
  kScoreSquares,
  kScoresBelowTenth,
  kScoresBelowHalf,
  kScoreHistogram
};
inline constexpr int64_t kScoreBins = 40;
inline constexpr int64_t kScoreSums = kScoreHistogram + kScoreBins;

/// Where the histogram of an activation's scores lies: all that it reaches, or what scores without a bound are like.
struct ScoreRange {
  double lowest, highest;
};
constexpr ScoreRange score_range(GateActivation activation) {
  switch (activation) {
    case GateActivation::kSigmoid:
    case GateActivation::kNsSigmoid:
      return {0, 1};
    case GateActivation::kTwiceSigmoid:
      return {0, 2};
    case GateActivation::kSilu:
    case GateActivation::kIdentity:
      break;
  }
  return {-4, 4};
}

/// Scores of a gate from its logits.
///   z         [rows, ...] f32 | f64
///   every     of each `every` rows the first one is taken
///   range     of the histogram
///   sums      [kScoreSums] f64  in/out
///   extremes  [2] f64           in/out, raised to the largest score and the largest negated score
/// Throws Error on a shape or dtype mismatch.
void score_sums(Stream& s, GateActivation activation, Tensor z, int64_t every, ScoreRange range, Tensor sums,
                Tensor extremes);

/// Places in the sums of magnitude_sums.
enum MagnitudeSum : int64_t { kMagnitudeCount, kMagnitudeTotal, kBelowHundredth, kBelowThousandth, kMagnitudeSums };

/// Magnitudes of factor * x.
///   x     any shape, f32 | f64
///   sums  [kMagnitudeSums] f64  in/out
void magnitude_sums(Stream& s, Tensor x, double factor, Tensor sums);

/// Rows that hold a massive activation [sun2024]: an element of more than `floor`, and of at least `medians` times the
/// median magnitude of its row (of an even number, the upper one).
///   x      [rows, width] f32 | f64
///   count  [1] f64  in/out
void massive_rows(Stream& s, Tensor x, double floor, double medians, Tensor count);

/// Largest element of x (NaN if any is), any shape f32 | f64, not empty, into out [1] f64.
void largest_element(Stream& s, Tensor x, Tensor out);

/// How often each expert was chosen.
///   indices  [tokens, top_k] i32  experts
///   counts   [experts] f64        in/out
void count_choices(Stream& s, Tensor indices, Tensor counts);

}  // namespace sluice
