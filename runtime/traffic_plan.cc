#include "runtime/traffic_plan.h"

#include "models/parameters.h"
#include "parallel/flat_layout.h"
#include "parallel/gradient_reducer.h"
#include "runtime/model_state.h"
#include "runtime/optimizer.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

const char* group_name(Replicas kind) {
  switch (kind) {
    case Replicas::kWorld:
      return "world";
    case Replicas::kDp:
      return "dp";
    case Replicas::kKeyValue:
      return "key-value copies";
    case Replicas::kEdp:
      return "edp";
  }
  return "";
}

/// The parts of a plan. T: tokens of a rank in a micro-step, H: hidden size, e: bytes of a number.
class Planner {
 public:
  Planner(const TrainConfig& config, int rank)
      : config_(config),
        model_(config.model()),
        shape_(mesh_shape(config)),
        rank_(rank),
        element_(dtype_bytes(compute_dtype(config.precision()))) {
    const TrainingConfig& t = config.training();
    tokens_ = t.micro_batch_size() * t.sequence_length() / shape_.tp;
    micro_steps_ = t.global_batch_size() / (t.micro_batch_size() * shape_.dp);
    for (const RecomputeRange& range : t.recompute()) recomputed_ += range.last_layer() - range.first_layer() + 1;
  }

  TrafficPlan plan() {
    tensor_parallel();
    if (model_.has_moe()) experts();
    gradients();
    // Losses and the router's sums of each layer; the norm.
    all_reduce("world", shape_.world(), (1 + 3 * model_.num_layers()) * 8);
    all_reduce("world", shape_.world(), 8);
    if (config_.optimizer().qk_clip() > 0) {
      all_reduce("world", shape_.world(), 8 * model_.num_layers() * model_.num_attention_heads());
    }
    if (config_.optimizer().update_clip() > 0) {
      const int64_t parameters = static_cast<int64_t>(parameter_records(model_, true, shape_, rank_).size());
      all_reduce("world", shape_.world(), 3 * 8 * parameters);
    }
    return plan_;
  }

 private:
  void add(const char* group, const char* operation, int64_t bytes) {
    if (bytes > 0) plan_[{group, operation}] += bytes;
  }
  void all_reduce(const char* group, int ranks, int64_t bytes, int64_t times = 1) {
    add(group, "all_reduce", times * (2 * bytes * (ranks - 1) / ranks));
  }

  /// Tokens gathered before a split matrix and scattered after the next, forward and back.
  void tensor_parallel() {
    const int64_t one = tokens_ * model_.hidden_size() * element_ * (shape_.tp - 1);
    // Attention, and a dense feed-forward layer or the shared expert.
    const int64_t split_layers = model_.has_moe() && !has_shared_expert(model_) ? 1 : 2;
    const int64_t layers = split_layers * (model_.num_layers() + recomputed_);
    // Backward gathers the input again, and the gradient of the output.
    const int64_t gathers = layers + 2 * split_layers * model_.num_layers() + 2;  // and output layer, embedding
    const int64_t scatters = layers + split_layers * model_.num_layers() + 2;
    const int64_t softmax = tokens_ * shape_.tp * 3 * 8 * (shape_.tp - 1);
    add("tp", "all_gather", micro_steps_ * (gathers * one + softmax));
    add("tp", "reduce_scatter", micro_steps_ * scatters * one);
    // Scores that heads share: their averages, and the gradients of those.
    for (const GateSpec& gate : model_.gates()) {
      if (gate.sharing() != GateSpec::HEAD_SHARED) continue;
      const int64_t scores = tokens_ * shape_.tp * (gate.granularity() == GateSpec::HEADWISE ? 1 : model_.head_dim());
      all_reduce("tp", shape_.tp, scores * element_, micro_steps_ * (2 * model_.num_layers() + recomputed_));
    }
  }

  void experts() {
    const MoeConfig& moe = model_.moe();
    const int64_t layers = model_.num_layers(), counts = moe.num_experts() * 8;
    const int64_t ranks = shape_.ep * shape_.etp;
    add("experts", "all_gather", micro_steps_ * layers * counts * (ranks - 1));
    all_reduce("world", shape_.world(), counts, micro_steps_ * layers);
    if (moe.balance_scope() == MoeConfig::GROUP) all_reduce("tp", shape_.tp, counts, micro_steps_ * layers);
    // An assignment goes to all etp ranks of its expert; one in ep of them stays.
    const int64_t assignments = tokens_ * moe.top_k();
    const int64_t rows = assignments * shape_.etp - assignments / shape_.ep;
    const int64_t there = model_.hidden_size() + 1, back = model_.hidden_size();  // the router's weight goes along
    const bool several_passes = config_.mesh().expert_budget() < 1;
    const int64_t forward = there + back, backward = back + there + (several_passes ? there : 0);
    if (ranks == 1) return;
    add("experts", "all_to_all",
        micro_steps_ * rows * element_ * (layers * (forward + backward) + recomputed_ * forward));
  }

  void gradients() {
    std::vector<ParameterRecord> records =
        parameter_records(model_, config_.optimizer().decay_embeddings(), shape_, rank_);
    const FlatLayout layout(records, shape_);
    const ZeroStage zero = zero_stage(config_.optimizer());
    for (const Bucket& bucket : layout.buckets()) {
      const int ranks = shape_.replicas(bucket.replicas);
      const char* group = group_name(bucket.replicas);
      const int64_t of_others = bucket.count / ranks * element_ * (ranks - 1);
      if (zero == ZeroStage::kNone) {
        all_reduce(group, ranks, bucket.count * element_);
        continue;
      }
      add(group, "reduce_scatter", (zero == ZeroStage::kGradients ? micro_steps_ : 1) * of_others);
      add(group, "all_gather", of_others);
    }
  }

  const TrainConfig& config_;
  const ModelConfig& model_;
  const MeshShape shape_;
  const int rank_;
  const int64_t element_;
  int64_t tokens_ = 0, micro_steps_ = 0, recomputed_ = 0;
  TrafficPlan plan_;
};

}  // namespace

TrafficPlan plan_traffic(const TrainConfig& config, int rank) { return Planner(config, rank).plan(); }

}  // namespace sluice
