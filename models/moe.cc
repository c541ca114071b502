#include "models/moe.h"

#include "kernels/balance.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/permute.h"
#include "kernels/router.h"
#include "kernels/swiglu.h"

namespace sluice {
namespace {

/// The counts that define the expert shares of the balance loss; `local` becomes the sum over ranks.
Tensor scope_counts(StepContext& ctx, MoeConfig::BalanceScope scope, Tensor local, Tensor running) {
  Tensor own = ctx.scratch.alloc("own_counts", DType::kI64, local.shape);
  fill_zero(ctx.stream, own);
  add_counts(ctx.stream, local, own);
  ctx.dp.all_reduce(local).wait();
  add_counts(ctx.stream, local, running);
  switch (scope) {
    case MoeConfig::GROUP:
      return own;
    case MoeConfig::MICRO_STEP:
      return local;
    case MoeConfig::RUNNING:
      return running;
  }
  return local;
}

/// The router's weight of each row.
Tensor row_weights(StepContext& ctx, const Routing& routing) {
  const int64_t rows = routing.slot_of_row.dim(0);
  const Tensor weights = ctx.scratch.alloc("row_weights", routing.weights.dtype, {rows});
  gather_rows(ctx.stream, routing.weights.reshaped({rows, 1}), routing.slot_of_row, 1, weights.reshaped({rows, 1}));
  return weights;
}

}  // namespace

void route(StepContext& ctx, const ModelConfig& config, int64_t layer, const MlpTensors& p, Tensor x,
           const LossScale& scale, StepSums& sums, Routing& routing) {
  const MoeConfig& moe = config.moe();
  const int64_t tokens = x.dim(0), experts = moe.num_experts(), top_k = moe.top_k();
  routing.probs = ctx.kept.alloc("router_probs", x.dtype, {tokens, experts});
  routing.lse = ctx.kept.alloc("router_lse", x.dtype, {tokens});
  routing.indices = ctx.kept.alloc("router_indices", DType::kI32, {tokens, top_k});
  routing.weights = ctx.kept.alloc("router_weights", x.dtype, {tokens, top_k});
  routing.offsets = ctx.kept.alloc("expert_offsets", DType::kI64, {experts + 1});
  routing.row_of_slot = ctx.kept.alloc("row_of_slot", DType::kI32, {tokens, top_k});
  routing.slot_of_row = ctx.kept.alloc("slot_of_row", DType::kI32, {tokens * top_k});
  routing.balance_gradient = ctx.kept.alloc("balance_gradient", x.dtype, {experts});

  const ArenaScope scope(ctx.scratch);
  Tensor counts = ctx.scratch.alloc("expert_counts", DType::kI64, {experts});
  linear_forward(ctx.stream, x, p.router, routing.probs);
  router_forward(ctx.stream, routing.probs, moe.norm_topk_prob(), routing.probs, routing.lse, routing.indices,
                 routing.weights, counts);
  permute_plan(ctx.stream, routing.indices, counts, routing.offsets, routing.row_of_slot, routing.slot_of_row);

  Tensor prob_sums = ctx.scratch.alloc("prob_sums", DType::kF64, {experts});
  Tensor moments = ctx.scratch.alloc("moments", DType::kF64, {2});
  router_sums(ctx.stream, routing.probs, routing.lse, prob_sums, moments);
  const Tensor running = sums.expert_counts.rows(layer, 1).reshaped({experts});
  const Tensor shares = scope_counts(ctx, moe.balance_scope(), counts, running);
  const Tensor layer_sums = sums.router.rows(layer, 1).reshaped({3});
  balance_loss(ctx.stream, shares, prob_sums, scale.per_token(), moe.balance_coef(), routing.balance_gradient,
               layer_sums.rows(0, 1));
  sluice::scale(ctx.stream, moments, scale.per_token());
  add(ctx.stream, layer_sums.rows(1, 2), moments, layer_sums.rows(1, 2));
}

void moe_forward(StepContext& ctx, const MlpTensors& p, const Routing& routing, Tensor x, Tensor residual, Tensor y,
                 MoeSaved& saved) {
  const int64_t rows = routing.slot_of_row.dim(0), width = p.down_proj.dim(2);
  saved.gate_up = ctx.saved.alloc("gate_up", x.dtype, {rows, 2 * width});
  const ArenaScope scope(ctx.scratch);
  const Tensor expert_in = ctx.scratch.alloc("expert_in", x.dtype, {rows, x.dim(1)});
  const Tensor activated = ctx.scratch.alloc("activated", x.dtype, {rows, width});
  gather_rows(ctx.stream, x, routing.slot_of_row, routing.indices.dim(1), expert_in);
  grouped_linear_forward(ctx.stream, expert_in, p.gate_up_proj, routing.offsets, saved.gate_up);
  swiglu_forward(ctx.stream, saved.gate_up, row_weights(ctx, routing), activated);
  const Tensor expert_out = expert_in;
  grouped_linear_forward(ctx.stream, activated, p.down_proj, routing.offsets, expert_out);
  combine_rows(ctx.stream, expert_out, routing.row_of_slot, residual, y);
}

void moe_backward(StepContext& ctx, const ModelConfig& config, const MlpTensors& p, const Routing& routing, Tensor x,
                  Tensor dy, const LossScale& scale, const MoeSaved& saved, Tensor dx, MlpTensors& grads) {
  const ArenaScope scope(ctx.scratch);
  const int64_t rows = routing.slot_of_row.dim(0), top_k = routing.indices.dim(1), width = p.down_proj.dim(2);
  const Tensor d_out = ctx.scratch.alloc("d_expert_out", x.dtype, {rows, x.dim(1)});
  const Tensor d_activated = ctx.scratch.alloc("d_activated", x.dtype, {rows, width});
  const Tensor d_row_weights = ctx.scratch.alloc("d_row_weights", x.dtype, {rows});
  gather_rows(ctx.stream, dy, routing.slot_of_row, top_k, d_out);
  grouped_linear_backward_input(ctx.stream, d_out, p.down_proj, routing.offsets, d_activated);
  const Tensor activated = d_activated, d_gate_up = saved.gate_up;
  swiglu_backward(ctx.stream, d_activated, saved.gate_up, row_weights(ctx, routing), activated, d_gate_up,
                  d_row_weights);
  grouped_linear_backward_weight(ctx.stream, d_out, activated, routing.offsets, grads.down_proj);

  const Tensor expert_in = d_out;
  gather_rows(ctx.stream, x, routing.slot_of_row, top_k, expert_in);
  grouped_linear_backward_weight(ctx.stream, d_gate_up, expert_in, routing.offsets, grads.gate_up_proj);
  const Tensor d_expert_in = expert_in;
  grouped_linear_backward_input(ctx.stream, d_gate_up, p.gate_up_proj, routing.offsets, d_expert_in);
  combine_rows(ctx.stream, d_expert_in, routing.row_of_slot, {}, dx);

  const Tensor d_weights = ctx.scratch.alloc("d_router_weights", x.dtype, routing.weights.shape);
  gather_rows(ctx.stream, d_row_weights.reshaped({rows, 1}), routing.row_of_slot.reshaped({rows}), 1,
              d_weights.reshaped({rows, 1}));
  RouterGradient gradient;
  gradient.dweights = d_weights;
  gradient.probs = routing.probs;
  gradient.lse = routing.lse;
  gradient.indices = routing.indices;
  gradient.weights = routing.weights;
  gradient.balance_gradient = routing.balance_gradient;
  gradient.z_gradient = config.moe().z_coef() * scale.per_token();
  gradient.normalize = config.moe().norm_topk_prob();
  Tensor d_logits = ctx.scratch.alloc("d_router_logits", x.dtype, routing.probs.shape);
  router_backward(ctx.stream, gradient, d_logits);
  linear_backward_weight(ctx.stream, d_logits, x, grads.router);
  linear_backward_input(ctx.stream, d_logits, p.router, dx, true);
}

}  // namespace sluice
