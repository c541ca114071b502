#pragma once

#include <cstdint>
#include <string>

#include "models/block.h"
#include "runtime/step.h"

namespace sluice {

/// Finds where a value that is not finite came up: looks at the residual stream and its gradient as the model makes
/// them, which takes next to nothing, and at everything else once a step is known to be spoilt.
class NonFiniteFinder : public Probe {
 public:
  /// All must outlive the finder.
  NonFiniteFinder(const Mesh& mesh, const ModelState& model, const TrainStep& train_step)
      : mesh_(mesh), model_(model), train_step_(train_step) {}

  /// Before the micro-steps of a step, which it is to look at.
  void begin_step(Stream& s);
  void see(const char* what, int64_t layer, Tensor x) override;
  /// Only of the block in which it has just found something.
  bool sees_blocks() const override { return looks_closer_; }
  void see_block(StepContext& ctx, int64_t layer, const TokenBatch& batch, const BlockSaved& block, Tensor y) override;

  /// After a step whose update was not made: what was the first that is not finite, on which rank, in words, the same
  /// on every rank; empty: all that can be looked at is finite. Every rank of the mesh calls it.
  std::string where();

 private:
  /// What this rank knows; a smaller order was earlier, or is nearer to the cause.
  struct Finding {
    int64_t order;
    std::string what;
  };
  bool finite(Tensor x);
  void find_in_parameters(Finding& first);
  void find_in_gradients(Finding& first);

  const Mesh& mesh_;
  const ModelState& model_;
  const TrainStep& train_step_;
  Stream* stream_ = nullptr;
  int64_t place_ = 0;  // of what was seen in this step
  bool found_ = false, looks_closer_ = false;
  Finding in_activations_{};
};

}  // namespace sluice
