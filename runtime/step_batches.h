#pragma once

#include <optional>

#include "configs/train.pb.h"
#include "models/context.h"
#include "parallel/mesh.h"
#include "runtime/data/prefetcher.h"

namespace sluice {

/// The batches of a run's steps, read ahead: which samples a step uses follows from how far the run is.
class StepBatches {
 public:
  /// All must outlive it.
  StepBatches(const TrainingConfig& config, int64_t prefetch, const TrainingData& data, const Mesh& mesh)
      : config_(config), prefetch_(prefetch), data_(data), mesh_(mesh) {}

  /// Begins to read what follows `step`, when so many samples have been passed over before.
  void start_after(int64_t step, int64_t dropped_samples);
  /// What this rank computes with its tp group in the next micro-step; valid until the next call.
  const Batch& next() { return prefetcher_->next(); }
  /// Of a step after the one that reading began at.
  LossScale loss_scale(int64_t step) const;

 private:
  /// Of all ranks.
  int64_t micro_step_sequences() const { return config_.micro_batch_size() * mesh_.shape().dp; }
  int64_t first_sample(int64_t step) const;

  const TrainingConfig& config_;
  const int64_t prefetch_;
  const TrainingData& data_;
  const Mesh& mesh_;
  int64_t dropped_samples_ = 0;
  std::optional<Prefetcher> prefetcher_;
};

}  // namespace sluice
