#include "kernels/diagnostics.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t skip,
                                         int64_t sink_span, Tensor sums);
                void attention_map(Stream& s, const AttentionInput& in, Tensor lse, Tensor map, Tensor rows);
                void score_sums(Stream& s, GateActivation activation, Tensor z, Tensor sums, Tensor extremes);
                void magnitude_sums(Stream& s, Tensor x, double factor, Tensor sums);)

namespace sluice {

void first_key_attention(Stream& s, const AttentionInput& in, Tensor lse, int64_t skip, int64_t sink_span,
                         Tensor sums) {
  check_queries_and_keys(in);
  expect("lse", lse, in.q.dtype, {in.q.dim(0), in.q.dim(1)});
  expect("sums", sums, DType::kF64, {in.q.dim(1), 4});
  SLUICE_DISPATCH(s, first_key_attention(s, in, lse, skip, sink_span, sums));
}

void attention_map(Stream& s, const AttentionInput& in, Tensor lse, Tensor map, Tensor rows) {
  check_queries_and_keys(in);
  expect("lse", lse, in.q.dtype, {in.q.dim(0), in.q.dim(1)});
  expect("map", map, DType::kF64, {map.dim(0), map.dim(0)});
  expect("rows", rows, DType::kF64, {map.dim(0)});
  const int32_t *queries = in.query_offsets.as<int32_t>(), *keys = in.key_offsets.as<int32_t>();
  for (int64_t i = 0; i < in.query_offsets.count(); ++i) {
    INVARIANT(queries[i] == keys[i], "offsets: queries and keys must be of the same tokens");
  }
  SLUICE_DISPATCH(s, attention_map(s, in, lse, map, rows));
}

void score_sums(Stream& s, GateActivation activation, Tensor z, Tensor sums, Tensor extremes) {
  expect("sums", sums, DType::kF64, {kScoreSums});
  expect("extremes", extremes, DType::kF64, {2});
  SLUICE_DISPATCH(s, score_sums(s, activation, z, sums, extremes));
}

void magnitude_sums(Stream& s, Tensor x, double factor, Tensor sums) {
  expect("sums", sums, DType::kF64, {kMagnitudeSums});
  SLUICE_DISPATCH(s, magnitude_sums(s, x, factor, sums));
}

}  // namespace sluice
