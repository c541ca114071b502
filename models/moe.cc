#include "models/moe.h"

#include <numeric>

#include "kernels/balance.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/grouped_gemm.h"
#include "kernels/permute.h"
#include "kernels/router.h"
#include "kernels/swiglu.h"

namespace sluice {
namespace {

/// The counts that define the expert shares of the balance loss; `local`, of this rank's assignments, becomes the sum
/// over ranks.
Tensor scope_counts(StepContext& ctx, MoeConfig::BalanceScope scope, int64_t assignments, Tensor local,
                    Tensor running) {
  Tensor own = ctx.scratch.alloc("own_counts", DType::kI64, local.shape);
  if (scope == MoeConfig::GROUP) {
    fill_zero(ctx.stream, own);
    add_counts(ctx.stream, local, own);
    ctx.mesh.tp().all_reduce(own).wait();
    // The shares do not change when all counts are wrong by one factor, so nothing later would show it.
    const int64_t expected = assignments * ctx.mesh.shape().tp;
    const int64_t counted = std::accumulate(own.as<int64_t>(), own.as<int64_t>() + own.count(), int64_t{0});
    INVARIANT(counted == expected, "experts of a group were chosen ", counted, " times, not ", expected);
  }
  ctx.mesh.world().all_reduce(local).wait();
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

/// x [tokens, hidden] and the router's weights, sorted by expert.
Tensor sorted_tokens(StepContext& ctx, const Routing& routing, Tensor x) {
  const Tensor rows = ctx.scratch.alloc("sorted_tokens", x.dtype, {routing.slot_of_row.dim(0), x.dim(1)});
  gather_rows(ctx.stream, x, routing.slot_of_row, routing.indices.dim(1), rows);
  return rows;
}
Tensor sorted_weights(StepContext& ctx, const Routing& routing) {
  const int64_t rows = routing.slot_of_row.dim(0);
  const Tensor sorted = ctx.scratch.alloc("sorted_weights", routing.weights.dtype, {rows, 1});
  gather_rows(ctx.stream, routing.weights.reshaped({rows, 1}), routing.slot_of_row, 1, sorted);
  return sorted;
}

/// What the experts of this rank compute in one pass: inputs, their weights, and the first product.
struct ExpertRows {
  Tensor x, weights, gate_up;
};

/// Brings the rows of a pass and computes gate_up. What backward needs is allocated from `arena`.
ExpertRows first_half(StepContext& ctx, Arena& arena, const MlpTensors& p, const ExpertExchange& exchange,
                      const ExpertExchange::Pass& pass, Tensor tokens, Tensor weights) {
  ExpertRows rows;
  rows.x = exchange.dispatch(arena, pass, tokens);
  rows.weights = exchange.dispatch(arena, pass, weights).reshaped({pass.rows});
  rows.gate_up = arena.alloc("gate_up", tokens.dtype, {pass.rows, p.gate_up_proj.dim(1)});
  grouped_linear_forward(ctx.stream, rows.x, p.gate_up_proj, pass.offsets, rows.gate_up);
  return rows;
}

/// The backward of one pass. d_x [rows, hidden] out, may alias d_out; d_weights [rows] out; parameter gradients are
/// added to where they `hold_sums`, else written. rows.gate_up is overwritten.
void experts_backward(StepContext& ctx, const MlpTensors& p, const ExpertExchange::Pass& pass, const ExpertRows& rows,
                      Tensor d_out, Tensor d_x, Tensor d_weights, MlpTensors& grads, bool hold_sums) {
  const Tensor d_activated = ctx.scratch.alloc("d_activated", d_out.dtype, {pass.rows, p.down_proj.dim(2)});
  grouped_linear_backward_input(ctx.stream, d_out, p.down_proj, pass.offsets, d_activated);
  const Tensor activated = d_activated, d_gate_up = rows.gate_up;
  swiglu_backward(ctx.stream, d_activated, rows.gate_up, rows.weights, activated, d_gate_up, d_weights);
  grouped_linear_backward_weight(ctx.stream, d_out, activated, pass.offsets, grads.down_proj, hold_sums);
  grouped_linear_backward_weight(ctx.stream, d_gate_up, rows.x, pass.offsets, grads.gate_up_proj, hold_sums);
  grouped_linear_backward_input(ctx.stream, d_gate_up, p.gate_up_proj, pass.offsets, d_x);
}

/// Gradient of the router's logits and what follows from it; adds to dx [tokens, hidden].
void router_layer_backward(StepContext& ctx, const ModelConfig& config, const MlpTensors& p, const Routing& routing,
                           Tensor x, Tensor d_weights, const LossScale& scale, Tensor dx, MlpTensors& grads) {
  RouterGradient gradient;
  gradient.dweights = d_weights;
  gradient.probs = routing.probs;
  gradient.lse = routing.lse;
  gradient.indices = routing.indices;
  gradient.weights = routing.weights;
  gradient.balance_gradient = routing.balance_gradient;
  gradient.z_gradient = config.moe().z_coef() * scale.per_token();
  gradient.normalize = config.moe().norm_topk_prob();
  const Tensor d_logits = ctx.scratch.alloc("d_router_logits", x.dtype, routing.probs.shape);
  router_backward(ctx.stream, gradient, d_logits);
  linear_backward_weight(ctx.stream, d_logits, x, grads.router);
  linear_backward_input(ctx.stream, d_logits, p.router, dx, true);
}

}  // namespace

void route(StepContext& ctx, const ModelConfig& config, int64_t layer, const MlpTensors& p, Tensor x,
           const LossScale& scale, StepSums& sums, Routing& routing) {
  const MoeConfig& moe = config.moe();
  const int64_t tokens = x.dim(0), experts = moe.num_experts(), top_k = moe.top_k();
  routing.probs = ctx.kept.alloc("router_probs", exact_dtype(x.dtype), {tokens, experts});
  routing.lse = ctx.kept.alloc("router_lse", exact_dtype(x.dtype), {tokens});
  routing.indices = ctx.kept.alloc("router_indices", DType::kI32, {tokens, top_k});
  routing.weights = ctx.kept.alloc("router_weights", exact_dtype(x.dtype), {tokens, top_k});
  routing.row_of_slot = ctx.kept.alloc("row_of_slot", DType::kI32, {tokens, top_k});
  routing.slot_of_row = ctx.kept.alloc("slot_of_row", DType::kI32, {tokens * top_k});
  routing.balance_gradient = ctx.kept.alloc("balance_gradient", exact_dtype(x.dtype), {experts});

  const ArenaScope scope(ctx.scratch);
  Tensor counts = ctx.scratch.alloc("expert_counts", DType::kI64, {experts});
  linear_forward(ctx.stream, x, p.router, routing.probs);
  router_forward(ctx.stream, routing.probs, p.selection_bias, moe.norm_topk_prob(), routing.probs, routing.lse,
                 routing.indices, routing.weights, counts);
  const Tensor offsets = ctx.scratch.alloc("expert_offsets", DType::kI64, {experts + 1});
  permute_plan(ctx.stream, routing.indices, counts, offsets, routing.row_of_slot, routing.slot_of_row);
  routing.exchange.plan(ctx.mesh, ctx.kept, counts, ctx.expert_budget);

  Tensor prob_sums = ctx.scratch.alloc("prob_sums", DType::kF64, {experts});
  Tensor moments = ctx.scratch.alloc("moments", DType::kF64, {2});
  router_sums(ctx.stream, routing.probs, routing.lse, prob_sums, moments);
  const Tensor running = sums.expert_counts.rows(layer, 1).reshaped({experts});
  const Tensor shares = scope_counts(ctx, moe.balance_scope(), tokens * top_k, counts, running);
  const Tensor layer_sums = sums.router.rows(layer, 1).reshaped({3});
  balance_loss(ctx.stream, shares, prob_sums, scale.per_token(), moe.balance_coef(), routing.balance_gradient,
               layer_sums.rows(0, 1));
  sluice::scale(ctx.stream, moments, scale.per_token());
  add(ctx.stream, layer_sums.rows(1, 2), moments, layer_sums.rows(1, 2));
}

void moe_forward(StepContext& ctx, const MlpTensors& p, const Routing& routing, Tensor x, Tensor residual, Tensor y,
                 MoeSaved& saved) {
  const ExpertExchange& exchange = routing.exchange;
  const ArenaScope scope(ctx.scratch);
  const Tensor tokens = sorted_tokens(ctx, routing, x), weights = sorted_weights(ctx, routing);
  const Tensor returned = tokens;
  saved = {};
  for (int64_t i = 0; i < exchange.passes(); ++i) {
    const ArenaScope pass_scope(ctx.scratch);
    const ExpertExchange::Pass pass = exchange.pass(ctx.scratch, i);
    const bool keep = exchange.passes() == 1;
    const ExpertRows rows = first_half(ctx, keep ? ctx.saved : ctx.scratch, p, exchange, pass, tokens, weights);
    if (keep) saved.gate_up = rows.gate_up;
    if (keep && !exchange.local()) saved.rows = rows.x, saved.weights = rows.weights;

    const Tensor activated = ctx.scratch.alloc("activated", x.dtype, {pass.rows, p.down_proj.dim(2)});
    swiglu_forward(ctx.stream, rows.gate_up, rows.weights, activated);
    const Tensor out = exchange.results(ctx.scratch, pass, returned);
    grouped_linear_forward(ctx.stream, activated, p.down_proj, pass.offsets, out);
    exchange.combine(ctx.stream, ctx.scratch, pass, out, returned);
  }
  combine_rows(ctx.stream, returned, routing.row_of_slot, residual, y);
}

void moe_backward(StepContext& ctx, const ModelConfig& config, const MlpTensors& p, const Routing& routing, Tensor x,
                  Tensor dy, const LossScale& scale, const MoeSaved& saved, Tensor dx, MlpTensors& grads) {
  const ExpertExchange& exchange = routing.exchange;
  const ArenaScope scope(ctx.scratch);
  const int64_t rows = routing.slot_of_row.dim(0);
  const Tensor d_tokens = sorted_tokens(ctx, routing, dy);
  const Tensor d_sorted_weights = ctx.scratch.alloc("d_sorted_weights", exact_dtype(x.dtype), {rows, 1});
  const Tensor returned = d_tokens;
  const bool kept = static_cast<bool>(saved.gate_up), again = !kept || exchange.local();
  const Tensor tokens = again ? sorted_tokens(ctx, routing, x) : Tensor{};
  const Tensor weights = again ? sorted_weights(ctx, routing) : Tensor{};
  for (int64_t i = 0; i < exchange.passes(); ++i) {
    const ArenaScope pass_scope(ctx.scratch);
    const ExpertExchange::Pass pass = exchange.pass(ctx.scratch, i);
    ExpertRows own{saved.rows, saved.weights, saved.gate_up};
    if (!kept) own = first_half(ctx, ctx.scratch, p, exchange, pass, tokens, weights);
    if (kept && again) own.x = tokens, own.weights = weights.reshaped({rows});

    const Tensor d_out = exchange.dispatch(ctx.scratch, pass, d_tokens);
    const Tensor d_rows = exchange.results(ctx.scratch, pass, returned);
    const Tensor d_row_weights = exchange.results(ctx.scratch, pass, d_sorted_weights);
    experts_backward(ctx, p, pass, own, d_out, d_rows, d_row_weights.reshaped({pass.rows}), grads,
                     ctx.gradients_hold_sums || i > 0);
    exchange.combine(ctx.stream, ctx.scratch, pass, d_rows, returned);
    exchange.combine(ctx.stream, ctx.scratch, pass, d_row_weights, d_sorted_weights);
  }
  combine_rows(ctx.stream, returned, routing.row_of_slot, {}, dx);

  const Tensor d_weights = ctx.scratch.alloc("d_router_weights", exact_dtype(x.dtype), routing.weights.shape);
  gather_rows(ctx.stream, d_sorted_weights, routing.row_of_slot.reshaped({rows}), 1, d_weights.reshaped({rows, 1}));
  router_layer_backward(ctx, config, p, routing, x, d_weights, scale, dx, grads);
}

}  // namespace sluice
