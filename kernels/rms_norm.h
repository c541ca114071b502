#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Widest row: sums in two precisions must fit into a worker's workspace.
inline constexpr int64_t kMaxNormWidth = ThreadPool::kWorkspaceBytes / 16;

/// RMS normalisation [zhang2019 eq. 4]: y = x / rms(x) * w, rms over the last axis.
///   x     [rows, width]  f32 | f64
///   w     [width]        dtype of x
///   y     [rows, width]  out, may alias x
///   rstd  [rows]         out, dtype of x, 1/rms; the backward needs it
/// eps is added under the root. Also the per-head norm of queries and keys, with rows = tokens * heads.
/// Throws Error on a shape or dtype mismatch.
void rms_norm_forward(Stream& s, Tensor x, Tensor w, double eps, Tensor y, Tensor rstd);

/// Gradient of rms_norm_forward.
///   dy    [rows, width]  gradient of y
///   x, w, rstd           as in forward
///   dx    [rows, width]  out, may alias dy; added to when `accumulate_dx` (then it may not alias dy)
///   dw    [width]        in/out, added to
void rms_norm_backward(Stream& s, Tensor dy, Tensor x, Tensor w, Tensor rstd, Tensor dx, Tensor dw,
                       bool accumulate_dx = false);

}  // namespace sluice
