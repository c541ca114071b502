#pragma once

#include "models/block.h"
#include "runtime/optimizer.h"

namespace sluice {

/// Keeps attention logits below a limit [kimi2025]: after an update, the weights of a head's queries are multiplied by
/// limit / (its largest logit in the step), where that is below 1. Queries alone, since heads share keys. Every rank of
/// the mesh makes the same calls.
class QkClip : public Probe {
 public:
  /// Allocates from the model's state arena. All must outlive it.
  QkClip(double limit, const ModelConfig& config, const Mesh& mesh, ModelState& model);

  /// Before the micro-steps of a step, all of which it is to see.
  void begin_step(Stream& s);
  bool sees_blocks() const override { return true; }
  bool sees_logits() const override { return true; }
  void see_block(StepContext& ctx, int64_t layer, const TokenBatch& batch, const BlockSaved& block, Tensor y) override;
  /// Changes the weights that this rank updates, before they are shared. Moments stay.
  void apply(Stream& s, const Optimizer& optimizer);

 private:
  int64_t first_head() const { return mesh_.place().tp * own_heads_; }

  const double limit_;
  const Mesh& mesh_;
  ModelState& model_;
  const int64_t layers_, heads_, own_heads_;
  const int64_t of_head_;                        // weights of a head's queries
  Tensor largest_;                               // [layers, query heads] f64, of the step so far
  std::vector<const ParameterRecord*> queries_;  // of each layer
};

}  // namespace sluice
