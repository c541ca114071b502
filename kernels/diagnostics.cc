#include "kernels/diagnostics.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t every, int64_t skip,
                                         int64_t sink_span, Tensor sums);
                void attention_map(Stream& s, const AttentionInput& in, Tensor lse, Tensor map, Tensor rows);
                void score_sums(Stream& s, GateActivation activation, Tensor z, int64_t every, ScoreRange range,
                                Tensor sums, Tensor extremes);
                void magnitude_sums(Stream& s, Tensor x, double factor, Tensor sums);
                void massive_rows(Stream& s, Tensor x, double floor, double medians, Tensor count);
                void largest_element(Stream& s, Tensor x, Tensor out);
                void count_choices(Stream& s, Tensor indices, Tensor counts);)

namespace sluice {

void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t every, int64_t skip,
                         int64_t sink_span, Tensor sums) {
  INVARIANT(every >= 1, "every=", every, ": must be at least 1");
  check_queries_and_keys(in);
  expect("lse", lse, exact_dtype(in.q.dtype), {in.q.dim(0), in.q.dim(1)});
  expect("sums", sums, DType::kF64, {in.q.dim(1), kFirstKeySums});
  SLUICE_DISPATCH(first_key_attention, s, in, lse, every, skip, sink_span, sums);
}

void attention_map(Stream& s, const AttentionInput& in, Tensor lse, Tensor map, Tensor rows) {
  check_queries_and_keys(in);
  expect("lse", lse, exact_dtype(in.q.dtype), {in.q.dim(0), in.q.dim(1)});
  expect("map", map, DType::kF64, {map.dim(0), map.dim(0)});
  expect("rows", rows, DType::kF64, {map.dim(0)});
  INVARIANT(in.query_offsets.data == in.key_offsets.data, "offsets: queries and keys must be of the same tokens");
  SLUICE_DISPATCH(attention_map, s, in, lse, map, rows);
}

void score_sums(Stream& s, GateActivation activation, Tensor z, int64_t every, ScoreRange range, Tensor sums,
                Tensor extremes) {
  INVARIANT(every >= 1, "every=", every, ": must be at least 1");
  expect("sums", sums, DType::kF64, {kScoreSums});
  expect("extremes", extremes, DType::kF64, {2});
  SLUICE_DISPATCH(score_sums, s, activation, z, every, range, sums, extremes);
}

void magnitude_sums(Stream& s, Tensor x, double factor, Tensor sums) {
  expect("sums", sums, DType::kF64, {kMagnitudeSums});
  SLUICE_DISPATCH(magnitude_sums, s, x, factor, sums);
}

void massive_rows(Stream& s, Tensor x, double floor, double medians, Tensor count) {
  expect("x", x, x.dtype, {x.dim(0), x.dim(1)});
  expect("count", count, DType::kF64, {1});
  SLUICE_DISPATCH(massive_rows, s, x, floor, medians, count);
}

void largest_element(Stream& s, Tensor x, Tensor out) {
  INVARIANT(x.count() > 0, "x: is empty and has no largest element");
  expect("out", out, DType::kF64, {1});
  SLUICE_DISPATCH(largest_element, s, x, out);
}

void count_choices(Stream& s, Tensor indices, Tensor counts) {
  expect("indices", indices, DType::kI32, {indices.dim(0), indices.dim(1)});
  expect("counts", counts, DType::kF64, {counts.dim(0)});
  SLUICE_DISPATCH(count_choices, s, indices, counts);
}

}  // namespace sluice
