#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Row look-up: y[t] = w[tokens[t]].
///   tokens [tokens] i32, below vocab; w [vocab, hidden] f32 | f64; y [tokens, hidden] out
/// Throws Error on a shape or dtype mismatch, and, naming it, on a token id out of the vocabulary.
void embedding_forward(Stream& s, Tensor tokens, Tensor w, Tensor y);

/// dw[tokens[t]] += dy[t], in token order, so that the sum repeats.
void embedding_backward(Stream& s, Tensor tokens, Tensor dy, Tensor dw);

}  // namespace sluice
