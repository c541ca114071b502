#include "models/gate.h"

#include "kernels/bias.h"
#include "kernels/gemm.h"

namespace sluice {

GateActivation gate_activation(const GateSpec& spec) {
  switch (spec.activation()) {
    case GateSpec::SIGMOID:
      return GateActivation::kSigmoid;
    case GateSpec::SILU:
      return GateActivation::kSilu;
    case GateSpec::NS_SIGMOID:
      return GateActivation::kNsSigmoid;
    case GateSpec::TWICE_SIGMOID:
      return GateActivation::kTwiceSigmoid;
    case GateSpec::IDENTITY:
      return GateActivation::kIdentity;
  }
  return GateActivation::kIdentity;
}

namespace {

/// The activations before and behind the average over heads, when there is one; else the second alone.
struct Activations {
  GateActivation before, behind;
};
Activations activations(const GateSpec& spec) {
  const GateActivation activation = gate_activation(spec);
  const bool scores = spec.sharing() == GateSpec::HEAD_SHARED && spec.average() == GateSpec::SCORES;
  return scores ? Activations{activation, GateActivation::kIdentity}
                : Activations{GateActivation::kIdentity, activation};
}

GateOp gate_op(const GateSpec& spec) {
  return {spec.combine() == GateSpec::ADD ? GateCombine::kAdd : GateCombine::kMultiply, activations(spec).behind};
}

bool shared(const GateSpec& spec) { return spec.sharing() == GateSpec::HEAD_SHARED; }

/// What a head of this rank weighs in the average over the heads of all ranks.
double weight_of_head(const StepContext& ctx, Tensor logits) {
  return 1 / static_cast<double>(logits.dim(1) * ctx.mesh.tp().size());
}

}  // namespace

Tensor flat_heads(Tensor t) { return t.reshaped({t.dim(0), t.shape.rank() == 3 ? t.dim(1) * t.dim(2) : t.dim(1)}); }

Tensor head_rows(Tensor t) { return t.reshaped({t.dim(0) * t.dim(1), t.dim(2)}); }

void InputGradient::add(Tensor dy, Tensor w) {
  linear_backward_input(s_, dy, w, dx_, begun_);
  begun_ = true;
}

const GateSpec* find_gate(const ModelConfig& config, GateSpec::Position position) {
  for (const GateSpec& gate : config.gates()) {
    if (gate.position() == position) return &gate;
  }
  return nullptr;
}

GateScores gate_scores(const GateSpec& spec, const GateSaved& saved) {
  return {shared(spec) ? saved.average : saved.logits, activations(spec).behind};
}

Tensor gate_layer_forward(StepContext& ctx, const GateSpec* spec, const GateTensors& p, Tensor x, Tensor y,
                          GateSaved& saved) {
  if (!spec) return y;
  saved.y = y;
  const int64_t channels = spec->granularity() == GateSpec::HEADWISE ? 1 : y.dim(2);
  saved.logits = ctx.saved.alloc("gate_logits", y.dtype, {y.dim(0), y.dim(1), channels});
  if (p.weight) linear_forward(ctx.stream, x, p.weight, flat_heads(saved.logits));
  if (p.bias) bias_forward(ctx.stream, p.bias, flat_heads(saved.logits), static_cast<bool>(p.weight));
  Tensor scores = saved.logits;
  if (shared(*spec)) {
    scores = saved.average = ctx.saved.alloc("average_scores", y.dtype, {y.dim(0), 1, channels});
    head_average_forward(ctx.stream, activations(*spec).before, weight_of_head(ctx, saved.logits), saved.logits,
                         scores);
    ctx.mesh.tp().all_reduce(scores).wait();
  }
  const Tensor out = ctx.saved.alloc("gated", y.dtype, y.shape);
  gate_forward(ctx.stream, gate_op(*spec), y, scores, out);
  return out;
}

void gate_layer_backward(StepContext& ctx, const GateSpec* spec, const GateTensors& p, Tensor x, const GateSaved& saved,
                         Tensor d_out, InputGradient& dx, const GateTensors& grads) {
  if (!spec) return;
  const ArenaScope scope(ctx.scratch);
  const Tensor d_logits = ctx.scratch.alloc("d_gate_logits", d_out.dtype, saved.logits.shape);
  if (shared(*spec)) {
    const Tensor d_average = ctx.scratch.alloc("d_average_scores", d_out.dtype, saved.average.shape);
    gate_backward(ctx.stream, gate_op(*spec), d_out, saved.y, saved.average, d_out, d_average);
    ctx.mesh.tp().all_reduce(d_average).wait();
    head_average_backward(ctx.stream, activations(*spec).before, weight_of_head(ctx, saved.logits), d_average,
                          saved.logits, d_logits);
  } else {
    gate_backward(ctx.stream, gate_op(*spec), d_out, saved.y, saved.logits, d_out, d_logits);
  }
  if (p.bias) bias_backward(ctx.stream, flat_heads(d_logits), grads.bias);
  if (!p.weight) return;
  linear_backward_weight(ctx.stream, flat_heads(d_logits), x, grads.weight);
  dx.add(flat_heads(d_logits), p.weight);
}

}  // namespace sluice
