#include "models/gate.h"

#include "kernels/gate.h"
#include "kernels/gemm.h"

namespace sluice {
namespace {

GateActivation activation_of(const GateSpec& spec) {
  switch (spec.activation()) {
    case GateSpec::SIGMOID:
      return GateActivation::kSigmoid;
    case GateSpec::SILU:
      return GateActivation::kSilu;
    case GateSpec::NS_SIGMOID:
      return GateActivation::kNsSigmoid;
    case GateSpec::IDENTITY:
      return GateActivation::kIdentity;
  }
  return GateActivation::kIdentity;
}

GateOp gate_op(const GateSpec& spec) {
  GateOp op;
  op.granularity =
      spec.granularity() == GateSpec::HEADWISE ? GateGranularity::kHeadwise : GateGranularity::kElementwise;
  op.combine = spec.combine() == GateSpec::ADD ? GateCombine::kAdd : GateCombine::kMultiply;
  op.activation = activation_of(spec);
  return op;
}

Shape logits_shape(const GateSpec& spec, Tensor y) {
  return spec.granularity() == GateSpec::HEADWISE ? Shape{y.dim(0), y.dim(1)} : y.shape;
}

}  // namespace

Tensor flat_heads(Tensor t) { return t.reshaped({t.dim(0), t.shape.rank() == 3 ? t.dim(1) * t.dim(2) : t.dim(1)}); }

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

Tensor gate_layer_forward(StepContext& ctx, const GateSpec* spec, Tensor w, Tensor x, Tensor y, GateSaved& saved) {
  if (!spec) return y;
  saved.y = y;
  saved.logits = ctx.saved.alloc("gate_logits", y.dtype, logits_shape(*spec, y));
  linear_forward(ctx.stream, x, w, flat_heads(saved.logits));
  const Tensor out = ctx.saved.alloc("gated", y.dtype, y.shape);
  gate_forward(ctx.stream, gate_op(*spec), y, saved.logits, out);
  return out;
}

void gate_layer_backward(StepContext& ctx, const GateSpec* spec, Tensor w, Tensor x, const GateSaved& saved,
                         Tensor d_out, InputGradient& dx, Tensor dw) {
  if (!spec) return;
  const ArenaScope scope(ctx.scratch);
  const Tensor d_logits = ctx.scratch.alloc("d_gate_logits", d_out.dtype, saved.logits.shape);
  gate_backward(ctx.stream, gate_op(*spec), d_out, saved.y, saved.logits, d_out, d_logits);
  linear_backward_weight(ctx.stream, flat_heads(d_logits), x, dw);
  dx.add(flat_heads(d_logits), w);
}

}  // namespace sluice
