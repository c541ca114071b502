#include "models/mlp.h"

#include "kernels/gemm.h"
#include "kernels/swiglu.h"

namespace sluice {

void mlp_forward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor y, MlpSaved& saved) {
  const int64_t tokens = x.dim(0), width = p.down_proj.dim(1);
  saved.gate_up = ctx.saved.alloc("gate_up", x.dtype, {tokens, 2 * width});
  saved.activated = ctx.saved.alloc("activated", x.dtype, {tokens, width});
  linear_forward(ctx.stream, x, p.gate_up_proj, saved.gate_up);
  swiglu_forward(ctx.stream, saved.gate_up, saved.activated);
  gemm(ctx.stream, Transpose::kNo, Transpose::kYes, saved.activated, p.down_proj, y, true);
}

void mlp_backward(StepContext& ctx, const MlpTensors& p, Tensor x, Tensor dy, const MlpSaved& saved, Tensor dx,
                  MlpTensors& grads) {
  const ArenaScope scope(ctx.scratch);
  Tensor d_activated = ctx.scratch.alloc("d_activated", x.dtype, saved.activated.shape);
  Tensor d_gate_up = ctx.scratch.alloc("d_gate_up", x.dtype, saved.gate_up.shape);
  linear_backward_weight(ctx.stream, dy, saved.activated, grads.down_proj);
  linear_backward_input(ctx.stream, dy, p.down_proj, d_activated);
  swiglu_backward(ctx.stream, d_activated, saved.gate_up, d_gate_up);
  linear_backward_weight(ctx.stream, d_gate_up, x, grads.gate_up_proj);
  linear_backward_input(ctx.stream, d_gate_up, p.gate_up_proj, dx);
}

}  // namespace sluice
