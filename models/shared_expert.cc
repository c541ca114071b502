#include "models/shared_expert.h"

#include "kernels/elementwise.h"
#include "kernels/gate.h"
#include "kernels/gemm.h"
#include "models/gate.h"

namespace sluice {

void shared_expert_forward(StepContext& ctx, const MlpTensors& p, Tensor gate, Tensor x, Tensor y,
                           SharedExpertSaved& saved) {
  if (!gate) return mlp_forward(ctx, p, x, y, y, saved.mlp);
  saved.out = ctx.saved.alloc("shared_expert", x.dtype, x.shape);
  saved.logits = ctx.saved.alloc("shared_expert_logits", x.dtype, {x.dim(0), 1});
  mlp_forward(ctx, p, x, {}, saved.out, saved.mlp);
  linear_forward(ctx.stream, x, gate, saved.logits);
  const ArenaScope scope(ctx.scratch);
  const Tensor gated = ctx.scratch.alloc("gated_shared_expert", x.dtype, x.shape);
  gate_forward(ctx.stream, {}, one_head(saved.out), one_head(saved.logits), one_head(gated));
  add(ctx.stream, y, gated, y);
}

void shared_expert_backward(StepContext& ctx, const MlpTensors& p, Tensor gate, Tensor x, Tensor dy,
                            const SharedExpertSaved& saved, Tensor dx, MlpTensors& grads, Tensor d_gate) {
  const ArenaScope scope(ctx.scratch);
  Tensor d_out = dy;
  if (gate) {
    d_out = ctx.scratch.alloc("d_shared_expert", dy.dtype, dy.shape);
    const Tensor d_logits = ctx.scratch.alloc("d_shared_expert_logits", dy.dtype, saved.logits.shape);
    gate_backward(ctx.stream, {}, one_head(dy), one_head(saved.out), one_head(saved.logits), one_head(d_out),
                  one_head(d_logits));
    linear_backward_weight(ctx.stream, d_logits, x, d_gate);
    linear_backward_input(ctx.stream, d_logits, gate, dx, true);
  }
  const Tensor through_mlp = ctx.scratch.alloc("d_shared_expert_input", dx.dtype, dx.shape);
  mlp_backward(ctx, p, x, d_out, saved.mlp, through_mlp, grads);
  add(ctx.stream, dx, through_mlp, dx);
}

}  // namespace sluice
