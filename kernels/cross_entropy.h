#pragma once

#include "kernels/vocabulary.h"

namespace sluice {

/// Cross-entropy of a block of rows of logits and, in the same pass, its gradient. Callers walk [tokens, vocab] in
/// blocks of rows, so that it is never stored in full.
///   logits   [rows, vocab]  f32 | f64; in: logits; out: gradient_scale * (softmax - one_hot), 0 where ignored;
///            unchanged when gradient_scale is 0
///   targets  [rows] i32     -1: not a target
///   losses   [rows] f64     out, -log softmax(logits)[target] in nats, 0 where ignored
/// Throws Error on a shape or dtype mismatch or a target outside [-1, vocab).
void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses);

/// The same over a vocabulary in parts, in two steps, between which the statistics of all parts are gathered: rows of
/// full logits exist nowhere. Both steps on the only part give the bits of cross_entropy.
///   logits   [rows, width]  those of this part; with a gradient, out: e^(logit - the largest of the part)
///   stats    [rows, 3] f64  out: the largest logit, the sum of e^(logit - it), and the target's logit, 0 where another
///            part has it
void cross_entropy_part(Stream& s, Tensor logits, Tensor targets, VocabularyPart part, bool with_gradient,
                        Tensor stats);

///   stats    [parts, rows, 3] f64  of all parts, of which this one is number `own`
///   logits   [rows, width]  in: as left by cross_entropy_part; out: as by cross_entropy
void cross_entropy_combine(Stream& s, Tensor logits, Tensor targets, VocabularyPart part, Tensor stats, int64_t own,
                           double gradient_scale, Tensor losses);

}  // namespace sluice
