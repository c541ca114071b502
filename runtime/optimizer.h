#pragma once

#include <limits>
#include <vector>

#include "kernels/adamw.h"
#include "parallel/gradient_reducer.h"
#include "runtime/model_state.h"

namespace sluice {

/// Values of a step above which its update is not made. The largest numbers there are: none, unless a value is not
/// finite.
struct UpdateLimits {
  double lm_loss = std::numeric_limits<double>::max();
  double grad_norm = std::numeric_limits<double>::max();
};

/// The loss of the step that an update belongs to, as the ranks have summed it.
struct SummedLoss {
  Tensor sum;             ///< [1] f64
  double per_target = 1;  ///< times the sum: nats a target
};

/// What an update is asked to be.
struct UpdateRequest {
  double lr = 0;
  int64_t step = 1;  ///< 1 for the run's first
  UpdateLimits limits{};
  bool measured = false;  ///< whether ParameterUpdates are wanted
};

/// What an update does to a parameter, over all ranks.
struct ParameterUpdate {
  double squared_gradient = 0;  ///< sum over elements, before clipping
  double rms = 0;               ///< root mean square of m_hat / (sqrt(v_hat) + epsilon), before learning rate and decay
  double staleness = 0;         ///< the same of gradient over sqrt(v_hat): 1 where v knows such gradients
};

/// AdamW over a model's flat buffers, with clipping by the global norm. Every element is counted in the norm by one
/// rank; who updates it depends on the ZeRO stage.
class Optimizer {
 public:
  /// Allocates both moments, zero, from the model's state arena. Model and mesh must outlive the optimizer.
  Optimizer(const OptimizerConfig& config, ModelState& model, const Mesh& mesh, Stream& s);

  struct Result {
    double grad_norm = 0;
    double clip_factor = 1;
    bool skipped = false;  ///< the norm was not finite or something was above its limit; nothing was changed
  };
  /// One update from summed gradients. The weights that this rank updates, and their moments, change unless skipped.
  /// Every rank of the mesh calls it, with the same request and result.
  Result update(Stream& s, const GradientReducer& gradients, const UpdateRequest& request, const SummedLoss& lm_loss);

  /// Of each of the model's records, in the last update that was measured, or would have been but for its skip.
  const std::vector<ParameterUpdate>& parameter_updates() const { return updates_; }

  /// Elements [begin, end) of what this rank holds of a parameter, and their moments.
  struct Moments {
    int64_t begin, end;
    Tensor m, v;  ///< [end - begin]
  };
  /// What this rank keeps of a parameter's moments: those of all that it holds of it, or of what it updates alone,
  /// which may be nothing.
  Moments moments(const ParameterRecord& record) const;

  /// Weights that this rank updates, and their moments, all [count] and with one of each element.
  struct Own {
    Tensor weights, m, v;
  };
  /// All that it updates; of other weights it has copies from other ranks.
  std::vector<Own> own() const;

  /// Updates before the run's first that the moments remember, for the correction of their bias.
  int64_t earlier_updates() const { return earlier_updates_; }
  void set_earlier_updates(int64_t updates) { earlier_updates_ = updates; }

  /// Weights of this rank's part of a bucket as they are updated, in the dtype of the moments, [part.count].
  Tensor owned_weights(size_t bucket) const;
  /// First and second moments of the same.
  Tensor owned_m(size_t bucket) const { return m_.rows(owned_begin(bucket), parts_[bucket].count); }
  Tensor owned_v(size_t bucket) const { return v_.rows(owned_begin(bucket), parts_[bucket].count); }

 private:
  /// A flat range that shares its settings.
  struct Range {
    int64_t begin, count;
    bool weight_decay;
    double lr_scale;
    size_t record;  // the first of those that it holds
  };
  /// Of all parameters, ascending; neighbours that share their settings together, if so wished.
  std::vector<Range> make_ranges(bool together) const;
  int64_t owned_begin(size_t bucket) const;
  void global_norm(Stream& s, const GradientReducer& gradients);
  /// Of the learning rate of a record.
  double update_clip_factor(size_t record) const;
  enum class Pass { kUpdate, kMeasure, kBoth };
  /// Of this rank's parts; updates other elements too, of which it has gradients.
  void pass_over(Stream& s, Pass pass, const AdamW& op, const GradientReducer& gradients);
  /// Of flat elements [begin, begin + count), whose gradients and moments lie in `gradient` and from `moment` on.
  void pass_over(Stream& s, Pass pass, const AdamW& op, int64_t begin, int64_t count, Tensor gradient, int64_t moment);
  /// What has been measured, over all ranks.
  void collect_updates();
  /// Where weights have another dtype than what is updated.
  void round_weights(Stream& s);

  OptimizerConfig config_;
  ModelState& model_;
  const Mesh& mesh_;
  std::vector<OwnedPart> parts_;
  std::vector<Range> ranges_, records_in_order_;
  Tensor m_, v_;    // [layout.count], or owned parts only
  Tensor masters_;  // as the moments; empty: the weights themselves are exact
  Tensor squares_;  // [buckets] f64
  Tensor squared_norm_, norm_, clip_factor_, skip_;
  Tensor update_sums_;  // [records, 3] f64, then of one part of a record
  std::vector<ParameterUpdate> updates_;
  int64_t earlier_updates_ = 0;
};

/// The ZeRO stage that a configuration asks for.
ZeroStage zero_stage(const OptimizerConfig& config);

}  // namespace sluice
