#pragma once

#include <algorithm>
#include <array>

#include "models/attention.h"
#include "models/mlp.h"
#include "models/moe.h"
#include "models/shared_expert.h"
#include "models/sublayer_output.h"

namespace sluice {

/// Activations of one block. A block that recomputes keeps `input` and `routing` only.
struct BlockSaved {
  Tensor input;                         ///< [tokens, hidden]
  Routing routing;                      ///< in a MoE block
  Tensor attention_rstd, attention_in;  ///< [tokens], [tokens, hidden]
  AttentionSaved attention;
  OutputPathSaved attention_path;
  Tensor middle;            ///< [tokens, hidden], the residual after attention
  Tensor mlp_rstd, mlp_in;  ///< [tokens], [tokens, hidden]
  MlpSaved mlp;
  MoeSaved moe;
  SharedExpertSaved shared_expert;
  OutputPathSaved mlp_path;
};

/// Several lookers-on, of whom each may be missing.
class ProbeList : public Probe {
 public:
  ProbeList() = default;
  ProbeList(Probe* first, Probe* second, Probe* third) : probes_{first, second, third} {}
  bool empty() const {
    return std::all_of(probes_.begin(), probes_.end(), [](const Probe* each) { return !each; });
  }
  void see(const char* what, int64_t layer, Tensor x) override {
    for (Probe* each : probes_) {
      if (each) each->see(what, layer, x);
    }
  }
  bool sees_blocks() const override {
    return std::any_of(probes_.begin(), probes_.end(), [](const Probe* each) { return each && each->sees_blocks(); });
  }
  bool sees_logits() const override {
    return std::any_of(probes_.begin(), probes_.end(), [](const Probe* each) { return each && each->sees_logits(); });
  }
  void see_block(StepContext& ctx, int64_t layer, const TokenBatch& batch, const BlockSaved& block, Tensor y) override {
    for (Probe* each : probes_) {
      if (each && each->sees_blocks()) each->see_block(ctx, layer, batch, block, y);
    }
  }

 private:
  std::array<Probe*, 3> probes_{};
};

/// What every block of a model shares in a step.
struct BlockContext {
  const ModelConfig& config;
  const RopeTables& rope;
  const TokenBatch& batch;
  const LossScale& scale;
};

/// One pre-norm transformer block: y = m + mlp(norm(m)), m = x + attention(norm(x)).
///   saved.input  [tokens, hidden]  the residual stream x, in ctx.kept
///   y            [tokens, hidden]  out
///   recompute    keep the input and the routing only
void block_forward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p, Tensor y,
                   StepSums& sums, BlockSaved& saved, bool recompute, LayerCache* cache = nullptr);

/// d [tokens, hidden] in: gradient of y, out: gradient of the input. Parameter gradients are added to.
void block_backward(StepContext& ctx, const BlockContext& shared, int64_t layer, const BlockTensors& p,
                    BlockSaved& saved, bool recompute, Tensor d, BlockTensors& grads);

}  // namespace sluice
