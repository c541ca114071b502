#include "models/sublayer_output.h"

#include "kernels/elementwise.h"
#include "kernels/rms_norm.h"

namespace sluice {

OutputPath attention_output_path(const ModelConfig& config, const BlockTensors& p) {
  return {find_gate(config, GateSpec::G5), p.attention.gate(GateSpec::G5), p.attention_output_norm,
          config.rms_norm_eps(), config.residual_clip()};
}

OutputPath mlp_output_path(const ModelConfig& config, const BlockTensors& p) {
  return {nullptr, {}, p.mlp_output_norm, config.rms_norm_eps(), config.residual_clip()};
}

void output_path_forward(StepContext& ctx, const OutputPath& path, Tensor x, Tensor out, Tensor residual, Tensor y,
                         OutputPathSaved& saved) {
  const ArenaScope scope(ctx.scratch);
  out = flat_heads(gate_layer_forward(ctx, path.gate, path.gate_tensors, x, one_head(out), saved.gate));
  if (path.norm) {
    saved.to_norm = out;
    saved.rstd = ctx.saved.alloc("output_rstd", exact_dtype(out.dtype), {out.dim(0)});
    out = ctx.saved.alloc("normed_output", out.dtype, out.shape);
    rms_norm_forward(ctx.stream, saved.to_norm, path.norm, path.eps, out, saved.rstd);
  }
  if (path.clip > 0) {
    saved.to_clip = out;
    out = ctx.scratch.alloc("clipped_output", out.dtype, out.shape);
    clip(ctx.stream, saved.to_clip, path.clip, out);
  }
  add(ctx.stream, residual, out, y);
}

void output_path_backward(StepContext& ctx, const OutputPath& path, Tensor x, const OutputPathSaved& saved,
                          Tensor d_out, InputGradient& dx, const OutputPath& grads) {
  if (path.clip > 0) clip_backward(ctx.stream, d_out, saved.to_clip, path.clip, d_out);
  if (path.norm) rms_norm_backward(ctx.stream, d_out, saved.to_norm, path.norm, saved.rstd, d_out, grads.norm);
  gate_layer_backward(ctx, path.gate, path.gate_tensors, x, saved.gate, one_head(d_out), dx, grads.gate_tensors);
}

}  // namespace sluice
