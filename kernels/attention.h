#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Widest head: a tile of keys must fit beside others into a worker's workspace.
inline constexpr int64_t kMaxHeadDim = 512;

/// What causal grouped-query attention reads. Documents are packed one after another; query head h uses key/value head
/// h / (query_heads / kv_heads).
struct AttentionInput {
  Tensor q;                ///< [query_tokens, query_heads, head_dim]  f32 | f64
  Tensor k;                ///< [key_tokens, kv_heads, head_dim]
  Tensor v;                ///< [key_tokens, kv_heads, head_dim]
  Tensor query_offsets;    ///< [documents + 1] i32, document d owns queries [query_offsets[d], query_offsets[d+1])
  Tensor key_offsets;      ///< [documents + 1] i32, likewise keys
  Tensor query_positions;  ///< [query_tokens] i32, a query sees the keys 0..position of its document
  double scale = 0;        ///< of the logits, 1/sqrt(head_dim)
};

/// Throws Error when q, k and the documents of an input do not belong together; v is not looked at.
void check_queries_and_keys(const AttentionInput& in);

/// Causal attention by tiles with an online softmax: the [queries, keys] matrix is never stored [dao2022 alg. 1].
///   out  [query_tokens, query_heads, head_dim]  out, softmax(scale q k^T + causal) v
///   lse  [query_tokens, query_heads]            out, dtype of q, log of the sum of exponentials of the scaled logits
///   largest  [query_tokens, query_heads]        out, dtype of q, the largest scaled logit; may be empty
/// Query and key counts may differ (key cache). Throws Error on a shape or dtype mismatch, on offsets that do not
/// ascend from 0 to the token counts, and on a position that its document has no key for.
void attention_forward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor largest = {});

/// Gradient of attention_forward; recomputes the probabilities from lse.
///   dout       [query_tokens, query_heads, head_dim]  gradient of out
///   out, lse   as returned by forward
///   delta      [query_tokens, query_heads]            scratch, dtype of q (sum over head_dim of out * dout)
///   dq         [query_tokens, query_heads, head_dim]  out
///   dk, dv     [key_tokens, kv_heads, head_dim]       out
/// Repeats to the last bit for a number of threads.
void attention_backward(Stream& s, const AttentionInput& in, Tensor out, Tensor lse, Tensor dout, Tensor delta,
                        Tensor dq, Tensor dk, Tensor dv);

}  // namespace sluice
