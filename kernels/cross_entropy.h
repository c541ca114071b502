#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Cross-entropy of a block of rows of logits and, in the same pass, its gradient. Callers walk [tokens, vocab] in
/// blocks of rows, so that it is never stored in full.
///   logits   [rows, vocab]  f32 | f64; in: logits; out: gradient_scale * (softmax - one_hot), 0 where ignored;
///            unchanged when gradient_scale is 0
///   targets  [rows] i32     -1: not a target
///   losses   [rows] f64     out, -log softmax(logits)[target] in nats, 0 where ignored
/// Throws Error on a shape or dtype mismatch or a target outside [-1, vocab).
void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses);

}  // namespace sluice
