#pragma once

#include "kernels/core/arena.h"
#include "kernels/core/stream.h"
#include "parallel/mesh.h"
#include "parallel/stage_hooks.h"

namespace sluice {

struct BlockSaved;
struct StepContext;
struct TokenBatch;

/// Looks at what a model computes on its way; for verification and diagnostics.
class Probe {
 public:
  virtual ~Probe() = default;
  /// The residual stream, and its gradient on the way back.
  ///   what, layer  after what of which layer (-1: before the first, their number: behind the last)
  ///   x            [own tokens, hidden]
  virtual void see(const char*, int64_t, Tensor) {}
  /// Whether it wants see_block; asked behind each block.
  virtual bool sees_blocks() const { return false; }
  /// Whether it wants AttentionSaved::largest of the blocks that it sees.
  virtual bool sees_logits() const { return false; }
  /// All that the forward pass of a layer's block has made; the last is its output, [own tokens, hidden].
  virtual void see_block(StepContext&, int64_t, const TokenBatch&, const BlockSaved&, Tensor) {}
};

/// What a layer is handed beside its parameters and inputs.
struct StepContext {
  Stream& stream;
  Arena& kept;       ///< block inputs and routing, kept until the micro-step's backward is done
  Arena& saved;      ///< other activations that backward needs; the recompute arena in a block that recomputes
  Arena& recompute;  ///< where a block that recomputes puts what it saves, for the length of one call
  Arena& scratch;    ///< what a function needs while it runs
  const Mesh& mesh;  ///< the groups to communicate in
  /// Rows that the experts of a rank take at a time, as a multiple of an even share; more come in further passes.
  double expert_budget = 2;
  bool gradients_hold_sums = true;  ///< if not, those with gradient_is_written hold anything and the others zero
  StageHooks* hooks = nullptr;      ///< told where the model is; null: nobody listens
  Probe* probe = nullptr;           ///< null: nobody looks
};

/// The samples of a micro-step that this rank computes together with those of its tp group: documents packed one after
/// another. Their number of tokens is a multiple of tp.
struct TokenBatch {
  Tensor tokens;            ///< [tokens] i32
  Tensor targets;           ///< [tokens] i32, -1: not a target; may be empty in inference
  Tensor positions;         ///< [tokens] i32, position within the document
  Tensor document_offsets;  ///< [documents + 1] i32, 0 .. tokens
};

/// What turns the sums of a micro-step into the loss of a step, which is defined without ranks.
struct LossScale {
  int64_t step_targets = 1;       ///< targets of the step, over all ranks and micro-steps
  int64_t micro_step_tokens = 1;  ///< tokens of a micro-step, over all ranks
  int64_t micro_steps = 1;        ///< micro-steps of the step

  double per_target() const { return 1.0 / static_cast<double>(step_targets); }
  double per_token() const { return 1.0 / (static_cast<double>(micro_step_tokens) * static_cast<double>(micro_steps)); }
};

/// Sums of a step, zeroed at its beginning; each rank adds its part, except for expert_counts.
struct StepSums {
  Tensor lm_loss;  ///< [1] f64, sum over targets in nats
  Tensor router;   ///< [layers, 3] f64: balance loss, z-loss, mean entropy in nats; contributions to the step's values
  Tensor expert_counts;  ///< [layers, experts] i64, assignments over all ranks so far in this step
};

/// Tables of the rotary embedding, [max_positions, head_dim / 2] each.
struct RopeTables {
  Tensor cosine, sine;
};

}  // namespace sluice
