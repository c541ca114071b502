#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// One update of AdamW [loshchilov2019 alg. 2], bias-corrected, decay decoupled and scaled by the learning rate.
struct AdamW {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  int64_t step = 1;              ///< 1 for the first update
  bool epsilon_in_root = false;  ///< sqrt(v_hat + epsilon), in place of sqrt(v_hat) + epsilon
};

///   weight, m, v   [n]  in/out, f32 | f64 (dtype of weight)
///   grad           [n]  dtype of weight, read only
///   clip_factor    [1] f64  multiplies the gradient
///   skip           [1] i32  not 0: nothing is changed
///   sums           [3] f64  out, as adamw_sums() has them, whether or not something is changed; may be empty
/// g = clip_factor * grad; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
/// weight -= lr * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon) + weight_decay * weight).
void adamw(Stream& s, const AdamW& op, Tensor weight, Tensor grad, Tensor m, Tensor v, Tensor clip_factor, Tensor skip,
           Tensor sums = {});

/// What the update that adamw() would make of the same tensors is like; nothing changes. With m and v as they would be:
///   sums [3] f64 out, over elements:
///     grad^2, before clipping;
///     u^2 of the update u = m_hat / (sqrt(v_hat) + epsilon), or as epsilon_in_root says, before learning rate and
///     decay; g^2 / max(v_hat, epsilon^2), or epsilon in the root: large where v has not followed the gradient
///     [wortsman2023]
/// The order of the sums depends on the count alone, not on the number of threads.
void adamw_sums(Stream& s, const AdamW& op, Tensor grad, Tensor m, Tensor v, Tensor clip_factor, Tensor sums);

/// factor [1] f64 = min(1, max_norm / (sqrt(squared_norm) + 1e-6)), 1 when max_norm is 0; norm [1] f64 = the root.
/// skip [1] i32 = 1 when the norm is not finite, else 0.
void clip_by_global_norm(Stream& s, Tensor squared_norm, double max_norm, Tensor factor, Tensor norm, Tensor skip);

/// skip [1] i32 = 1 unless scale * value, value [1] f64, is at most `limit`; then it stays.
void skip_above(Stream& s, Tensor value, double scale, double limit, Tensor skip);

}  // namespace sluice
