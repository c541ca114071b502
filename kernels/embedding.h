#pragma once

#include "kernels/vocabulary.h"

namespace sluice {

/// Row look-up: y[t] = w[tokens[t] - part.first], 0 where another part holds the token.
///   tokens [tokens] i32, below vocab; w [rows, hidden] f32 | f64; y [tokens, hidden] out
/// Throws Error on a shape or dtype mismatch, and, naming it, on a token id out of the vocabulary.
void embedding_forward(Stream& s, Tensor tokens, Tensor w, VocabularyPart part, Tensor y);

/// dw[tokens[t] - part.first] += dy[t] where the part holds the token, in token order, so that the sum repeats.
void embedding_backward(Stream& s, Tensor tokens, Tensor dy, VocabularyPart part, Tensor dw);

}  // namespace sluice
