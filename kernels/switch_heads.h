#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Largest pool of experts of a head.
inline constexpr int64_t kMaxSwitchExperts = 64;

/// Heads from pools of experts [csordas2023]: out[t, h] = the sum, over the top_k experts e of head h with the largest
/// logits, of sigmoid(z[t, h, e]) * y[t, h, e]. Of equal logits the first count as larger.
///   y    [tokens, heads, experts, head_dim]  f32 | f64
///   z    [tokens, heads, experts]            dtype of y
///   out  [tokens, heads, head_dim]           out
/// Throws Error on a shape or dtype mismatch.
void switch_heads_forward(Stream& s, int64_t top_k, Tensor y, Tensor z, Tensor out);

/// Gradient of switch_heads_forward. dout as out; dy as y, may alias y; dz as z; both out, 0 where not chosen.
void switch_heads_backward(Stream& s, int64_t top_k, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz);

}  // namespace sluice
