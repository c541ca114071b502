#pragma once

#include "models/context.h"

namespace sluice {

/// Output layer, cross-entropy and, in the same walk over blocks of rows, their gradients. The vocabulary is split over
/// mesh.tp(): full logits exist nowhere, and this rank's are never stored for all tokens of a large vocabulary.
///   x               [own tokens, hidden]  normed final hidden state
///   w               [vocab / tp, hidden]
///   targets         [tokens] i32, of all tokens of the tp group, -1: not a target
///   gradient_scale  of each target's loss; 0: no gradients, then dx and dw are not touched
///   losses          [tokens] f64  out, nats, the same on every rank of tp; 0 where not a target
///   dx              [own tokens, hidden]  out
///   dw              [vocab / tp, hidden]  in/out, added to
/// Every rank of mesh.tp() calls it.
void head_loss(StepContext& ctx, Tensor x, Tensor w, Tensor targets, double gradient_scale, Tensor losses, Tensor dx,
               Tensor dw);

}  // namespace sluice
