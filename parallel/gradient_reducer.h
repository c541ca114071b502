#pragma once

#include <vector>

#include "kernels/core/arena.h"
#include "parallel/owned_parts.h"

namespace sluice {

/// What the ranks that hold copies of a parameter divide among themselves [rajbhandari2020].
enum class ZeroStage {
  kNone,       ///< nothing: every rank keeps and updates all that it holds
  kOptimizer,  ///< moments and the update
  kGradients,  ///< gradients too, reduced after every micro-step
};

/// Gradients, from the first term to the sum over the ranks that hold copies. A stage's buckets leave as soon as they
/// are final: after the last micro-step, or with kGradients after each.
class GradientReducer {
 public:
  /// Allocates the buffers of a dtype from `arena`. Mesh and layout must outlive the reducer.
  GradientReducer(const Mesh& mesh, const FlatLayout& layout, ZeroStage zero, DType dtype, Arena& arena);

  /// Where the model adds the gradient of a parameter, or writes it: see holds_sums().
  Tensor place(const ParameterRecord& record) const;

  /// Every rank of the mesh calls these in the order of StageHooks.
  void begin_step(Stream& s);
  void begin_micro_step(bool first, bool last);
  /// Whether gradients hold sums of earlier micro-steps. If not they are zero, except for those of parameters with
  /// gradient_is_written, which hold anything.
  bool holds_sums() const { return holds_sums_; }
  void before_backward(Stream& s, int stage);
  void after_backward(Stream& s, int stage);
  /// Waits until every sum is there.
  void finish(Stream& s);
  /// Waits for what is under way, which nobody will look at: a step that is not finished.
  void abandon();

  /// [part.count] The sum over ranks of this rank's part of a bucket, after finish().
  Tensor owned(size_t bucket) const;
  /// What this rank knows of a parameter's gradient after finish().
  struct KnownPart {
    Tensor part;
    bool summed;  ///< over the ranks that hold copies; else what this rank has made of it
  };
  std::vector<KnownPart> known_parts(const ParameterRecord& record) const;
  /// Whether a value that only its owner knows as not finite was made so by that rank: what the others have made is
  /// still there.
  bool tells_ranks_apart() const { return zero_ == ZeroStage::kOptimizer || mesh_.world().size() == 1; }
  /// [layout.count] All sums that this rank holds, after finish(); with ZeroStage::kNone only.
  Tensor all() const { return flat_; }

 private:
  /// A bucket on its way.
  struct Flight {
    Event event;
    bool under_way = false;
  };
  /// A part of a stage in flat_, where the stage has its place.
  Tensor part_of_stage(int stage, int64_t begin, int64_t count) const;
  Tensor bucket_tensor(const Bucket& bucket) const { return part_of_stage(bucket.stage, bucket.begin, bucket.count); }
  void zero_stage(Stream& s, int stage);
  template <class Visit>
  void for_each_bucket(int stage, const Visit& visit);
  void land(Stream& s, size_t bucket);

  const Mesh& mesh_;
  const FlatLayout& layout_;
  ZeroStage zero_;
  std::vector<OwnedPart> parts_;
  std::vector<Flight> flights_;  // of each bucket
  Tensor flat_;      // gradients as they are made; with kGradients of the stages that have a place at a time
  Tensor shard_;     // kGradients: owned parts, summed over ranks and micro-steps
  Tensor arriving_;  // kGradients: owned parts of one micro-step, by shard_begin
  std::vector<int64_t> stage_offsets_;  // of each stage's place in flat_
  bool holds_sums_ = false, last_ = true;
};

}  // namespace sluice
