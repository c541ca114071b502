#include "models/mlp.h"

#include "kernels/gemm.h"
#include "kernels/swiglu.h"
#include "parallel/token_parallel.h"

namespace sluice {

void mlp_forward(StepContext& ctx, const MlpTensors& p, Tensor own_x, Tensor residual, Tensor y, MlpSaved& saved) {
  const ArenaScope scope(ctx.scratch);
  const Tensor x = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_x);
  const int64_t tokens = x.dim(0), width = p.down_proj.dim(1);
  saved.gate_up = ctx.saved.alloc("gate_up", x.dtype, {tokens, 2 * width});
  const Tensor activated = ctx.scratch.alloc("activated", x.dtype, {tokens, width});
  linear_forward(ctx.stream, x, p.gate_up_proj, saved.gate_up);
  swiglu_forward(ctx.stream, saved.gate_up, {}, activated);
  PartialSum out(ctx.stream, ctx.mesh.tp(), ctx.scratch, residual, y);
  gemm(ctx.stream, Transpose::kNo, Transpose::kYes, activated, p.down_proj, out.term(), out.accumulates());
  out.finish();
}

void mlp_backward(StepContext& ctx, const MlpTensors& p, Tensor own_x, Tensor own_dy, const MlpSaved& saved,
                  Tensor own_dx, MlpTensors& grads) {
  const ArenaScope scope(ctx.scratch);
  const Tensor x = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_x);
  const Tensor dy = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_dy);
  const Tensor d_activated = ctx.scratch.alloc("d_activated", x.dtype, {x.dim(0), p.down_proj.dim(1)});
  linear_backward_input(ctx.stream, dy, p.down_proj, d_activated);
  const Tensor activated = d_activated, d_gate_up = saved.gate_up;
  swiglu_backward(ctx.stream, d_activated, saved.gate_up, {}, activated, d_gate_up, {});
  linear_backward_weight(ctx.stream, dy, activated, grads.down_proj);
  linear_backward_weight(ctx.stream, d_gate_up, x, grads.gate_up_proj);
  PartialSum sum(ctx.stream, ctx.mesh.tp(), ctx.scratch, {}, own_dx);
  linear_backward_input(ctx.stream, d_gate_up, p.gate_up_proj, sum.term());
  sum.finish();
}

}  // namespace sluice
