#pragma once

#include "models/context.h"

namespace sluice {

/// Output layer, cross-entropy and, in the same walk over blocks of rows, their gradients: [tokens, vocab] is never
/// stored in full for a large vocabulary.
///   x               [tokens, hidden]  normed final hidden state
///   w               [vocab, hidden]
///   targets         [tokens] i32, -1: not a target
///   gradient_scale  of each target's loss; 0: no gradients, then dx and dw are not touched
///   losses          [tokens] f64  out, nats; 0 where not a target
///   dx              [tokens, hidden]  out
///   dw              [vocab, hidden]   in/out, added to
void head_loss(StepContext& ctx, Tensor x, Tensor w, Tensor targets, double gradient_scale, Tensor losses, Tensor dx,
               Tensor dw);

}  // namespace sluice
