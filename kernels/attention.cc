#include "kernels/attention.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void attention_forward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor largest);
                void attention_backward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor dout,
                                        Tensor delta, Tensor dq, Tensor dk, Tensor dv);)

namespace sluice {
namespace {

void check_heads(const AttentionInput& in) {
  const Tensor &q = in.q, &k = in.k;
  INVARIANT(is_float(q.dtype), "q: expected f32, f64 or bf16, got ", dtype_name(q.dtype));
  INVARIANT(q.shape.rank() == 3, "q: expected [query_tokens, query_heads, head_dim], got ", to_string(q.shape));
  INVARIANT(k.shape.rank() == 3, "k: expected [key_tokens, kv_heads, head_dim], got ", to_string(k.shape));
  expect("k", k, q.dtype, {k.dim(0), k.dim(1), q.dim(2)});
  INVARIANT(k.dim(1) > 0 && q.dim(1) % k.dim(1) == 0, "q: ", q.dim(1), " query heads are not a multiple of the ",
            k.dim(1), " key/value heads");
  INVARIANT(q.dim(2) <= kMaxHeadDim, "q: head_dim ", q.dim(2), " is above ", kMaxHeadDim);
}

void check_offsets(const char* name, Tensor offsets, int64_t tokens) {
  const int32_t* at = offsets.as<int32_t>();
  const int64_t documents = offsets.dim(0) - 1;
  ENSURE(at[0] == 0, name, "[0]: expected 0, got ", at[0]);
  for (int64_t d = 0; d < documents; ++d) {
    ENSURE(at[d] <= at[d + 1], name, "[", d + 1, "]=", at[d + 1], " is below the offset before it, ", at[d]);
  }
  ENSURE(at[documents] == tokens, name, "[", documents, "]: expected the number of tokens, ", tokens, ", got ",
         at[documents]);
}

void check_documents(const AttentionInput& in) {
  INVARIANT(in.query_offsets.shape.rank() == 1 && in.query_offsets.dim(0) >= 1,
            "query_offsets: expected [documents + 1], got ", to_string(in.query_offsets.shape));
  expect("query_offsets", in.query_offsets, DType::kI32, in.query_offsets.shape);
  expect("key_offsets", in.key_offsets, DType::kI32, in.query_offsets.shape);
  expect("query_positions", in.query_positions, DType::kI32, {in.q.dim(0)});
  check_offsets("query_offsets", in.query_offsets, in.q.dim(0));
  check_offsets("key_offsets", in.key_offsets, in.k.dim(0));
  const int32_t* queries = in.query_offsets.as<int32_t>();
  const int32_t* keys = in.key_offsets.as<int32_t>();
  const int32_t* positions = in.query_positions.as<int32_t>();
  for (int64_t d = 0; d + 1 < in.query_offsets.dim(0); ++d) {
    const int32_t document_keys = keys[d + 1] - keys[d];
    for (int32_t t = queries[d]; t < queries[d + 1]; ++t) {
      ENSURE(positions[t] >= 0 && positions[t] < document_keys, "query_positions[", t, "]=", positions[t],
             " has no key in document ", d, " of ", document_keys, " keys");
    }
  }
}

/// `products` of a query with a key or a value: two forward, five backward, which recomputes the logits.
OpCost cost_of(const char* op, const AttentionInput& in, double products, double bytes) {
  double seen = 0;
  for (int64_t t = 0; t < in.q.dim(0); ++t) seen += in.query_positions.as<int32_t>()[t] + 1.0;
  const double width = static_cast<double>(in.q.dim(1) * in.q.dim(2));
  return {op, 2 * products * seen * width, bytes};
}

void check(const AttentionInput& in, Tensor out, Tensor lse) {
  check_queries_and_keys(in);
  expect("v", in.v, in.q.dtype, in.k.shape);
  expect("out", out, in.q.dtype, in.q.shape);
  expect("lse", lse, exact_dtype(in.q.dtype), {in.q.dim(0), in.q.dim(1)});
}

}  // namespace

void check_queries_and_keys(const AttentionInput& in) {
  check_heads(in);
  check_documents(in);
}

void attention_forward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor largest) {
  check(in, out, lse);
  if (largest) expect("largest", largest, exact_dtype(in.q.dtype), lse.shape);
  SLUICE_DISPATCH_WITH_COST(cost_of("attention_forward", in, 2, bytes_of_tensors(in.q, in.k, in.v, out, lse)),
                            attention_forward, s, in, out, lse, largest);
}

void attention_backward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor dout, Tensor delta,
                        Tensor dq, Tensor dk, Tensor dv) {
  check(in, out, lse);
  expect("dout", dout, in.q.dtype, in.q.shape);
  expect("delta", delta, exact_dtype(in.q.dtype), lse.shape);
  expect("dq", dq, in.q.dtype, in.q.shape);
  expect("dk", dk, in.q.dtype, in.k.shape);
  expect("dv", dv, in.q.dtype, in.k.shape);
  const double bytes = bytes_of_tensors(in.q, in.k, in.v, out, lse, dout, dq, dk, dv);
  SLUICE_DISPATCH_WITH_COST(cost_of("attention_backward", in, 5, bytes), attention_backward, s, in, out, lse, dout,
                            delta, dq, dk, dv);
}

}  // namespace sluice
