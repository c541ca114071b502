#pragma once

#include <vector>

#include "kernels/vocabulary.h"
#include "models/block.h"

namespace sluice {

/// Activations of the model for one micro-step. Reused between steps, so that a step allocates nothing.
struct TransformerSaved {
  std::vector<BlockSaved> blocks;
  Tensor last;       ///< [own tokens, hidden], the residual stream after the last block
  Tensor norm_rstd;  ///< [own tokens]
  Tensor normed;     ///< [own tokens, hidden], scaled for the output layer
};

/// A decoder-only transformer, bound to its configuration. Holds no memory of its own but the RoPE tables.
class Transformer {
 public:
  /// RoPE tables for positions below max_positions are computed into `state`, in the dtype of the model.
  Transformer(const ModelConfig& config, const TrainingConfig& training, DType dtype, int64_t max_positions,
              Arena& state);

  const ModelConfig& config() const { return config_; }

  /// Hidden states of the final norm, ready for the output layer. Every rank of the mesh calls it.
  ///   caches  one a layer for incremental decoding, empty otherwise
  void forward(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch, const LossScale& scale, StepSums& sums,
               TransformerSaved& saved, std::vector<LayerCache>* caches = nullptr) const;

  /// forward, language-model loss and backward of one micro-step: adds to the sums and to the gradients.
  /// `kept` and `saved` are given back before it returns.
  void train_micro_step(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch, const LossScale& scale,
                        StepSums& sums, TransformerSaved& saved, ModelTensors& grads) const;

  /// losses [tokens] f64 out: nats of each target, 0 where not a target. Every rank of the mesh calls it.
  void evaluate(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch, StepSums& sums,
                TransformerSaved& saved, Tensor losses) const;

 private:
  void backward(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch, const LossScale& scale,
                TransformerSaved& saved, Tensor d_normed, ModelTensors& grads) const;
  /// The residual stream [own tokens, hidden] that the first block reads, in ctx.kept.
  Tensor embed(StepContext& ctx, const ModelTensors& p, const TokenBatch& batch) const;
  void scale_hidden(StepContext& ctx, Tensor x) const;
  /// Of the embedding and the output layer, what this rank holds.
  VocabularyPart vocabulary_part(const StepContext& ctx) const;

  ModelConfig config_;
  std::vector<bool> recompute_;  ///< of each block
  double logit_scale_ = 1;       ///< muP: base width over width
  RopeTables rope_;
};

/// Total loss of a step from its sums over all ranks: LM + coef * sum of balance losses + z-coef * sum of z-losses.
struct StepLosses {
  double loss = 0;
  double lm_loss = 0;
  double balance_loss = 0;  ///< mean over layers, without coefficient
  double z_loss = 0;        ///< mean over layers, without coefficient
};
StepLosses step_losses(const ModelConfig& config, const LossScale& scale, const StepSums& sums);

}  // namespace sluice
