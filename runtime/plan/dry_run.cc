#include "runtime/plan/dry_run.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "parallel/planned_group.h"
#include "runtime/diagnostics.h"
#include "runtime/evaluate.h"
#include "runtime/non_finite.h"
#include "runtime/plan/plain_batch.h"
#include "runtime/rewinder.h"
#include "runtime/save.h"
#include "runtime/snapshot_ring.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

/// Tells an observer of ops, and routes: experts of this rank are chosen `imbalance` times as often as an even share,
/// the others alike.
class Routes : public OpPlanner {
 public:
  Routes(const MeshShape& shape, int rank, double imbalance)
      : ep_(shape.ep), own_(shape.place(rank).ep), imbalance_(imbalance) {}

  void observe(PlanObserver* observer) { observer_ = observer; }
  void add(const OpCost& cost) override {
    if (observer_) observer_->op(cost);
  }
  void choose(Tensor counts, int64_t choices) override {
    const int64_t local = counts.count() / ep_;
    const double even = static_cast<double>(choices) / ep_;
    const int64_t here = std::min(choices, static_cast<int64_t>(std::llround(even * (ep_ > 1 ? imbalance_ : 1))));
    share(here, counts.rows(own_ * local, local).as<int64_t>(), local);
    // The others, whose places are around those.
    std::vector<int64_t> others(static_cast<size_t>(counts.count() - local));
    share(choices - here, others.data(), counts.count() - local);
    int64_t* all = counts.as<int64_t>();
    std::copy_n(others.begin(), own_ * local, all);
    std::copy(others.begin() + own_ * local, others.end(), all + (own_ + 1) * local);
  }

 private:
  static void share(int64_t choices, int64_t* counts, int64_t experts) {
    for (int64_t e = 0; e < experts; ++e) counts[e] = choices * (e + 1) / experts - choices * e / experts;
  }

  const int64_t ep_, own_;
  const double imbalance_;
  PlanObserver* observer_ = nullptr;
};

}  // namespace

class DryRun::Rank {
 public:
  Rank(const TrainConfig& config, int rank, double imbalance)
      : config_(config),
        world_(make_planned_group(rank, mesh_shape(config).world())),
        mesh_(mesh_shape(config), *world_),
        routes_(mesh_.shape(), rank, imbalance),
        stream_{Device::kCpu, Isa::kPortable, nullptr, &routes_},
        model_(config.model(), config.optimizer().decay_embeddings(), compute_dtype(config.precision()), mesh_.shape(),
               rank, MemorySource::kNone),
        transformer_(config.model(), config.training(), compute_dtype(config.precision()),
                     config.training().sequence_length(), model_.state),
        step_(config, transformer_, model_, mesh_, stream_),
        batch_(plain_batch(config, mesh_.shape().tp)),
        diagnostics_(config.model(), mesh_, DiagnosticsProbe::Detail::kCheap),
        finder_(mesh_, model_, step_),
        staging_("checkpoint copy", MemorySource::kNone, physical_memory_bytes()) {
    step_.set_watch(&finder_);
    // What ops would have written and the host reads.
    std::memset(model_.numbers.base(), 0, static_cast<size_t>(model_.numbers.used_bytes()));
    const int64_t every = config.checkpoint().every();
    if (every > 0 && every < config.training().steps()) {
      ShardSnapshot(owned_elements(model_, step_.optimizer(), mesh_), staging_);
    }
    if (may_rewind(config.stability())) {
      snapshots_.emplace(step_.optimizer(), config.stability().rewind().snapshots(), MemorySource::kNone);
    }
  }

  int64_t micro_steps() const {
    return config_.training().global_batch_size() / (config_.training().micro_batch_size() * mesh_.shape().dp);
  }

  void step(int64_t micro_steps, PlanObserver& observer, bool logged) {
    LossScale scale;
    scale.micro_steps = micro_steps;
    scale.micro_step_tokens = batch_.target_count * mesh_.shape().dp;
    scale.step_targets = scale.micro_step_tokens * micro_steps;
    step_.set_probe(logged ? &diagnostics_ : nullptr, 1);
    step_.measure_updates(logged);
    observe(&observer);
    finder_.begin_step(stream_);
    step_.run(stream_, 1, config_.optimizer().lr(), scale, [this]() -> const Batch& { return batch_; });
    step_.wait_for_weights();
    observe(nullptr);
    if (logged) diagnostics_.finish();
  }

  void evaluate(PlanObserver& observer) {
    observe(&observer);
    StepContext ctx = evaluation_.context(stream_, mesh_);
    const ArenaScope scope(ctx.scratch);
    EvaluationSums sums(ctx, config_.model());
    TransformerSaved saved;
    evaluate_batch(ctx, transformer_, model_.weight_tensors, batch_, sums, saved);
    observe(nullptr);
  }

  std::vector<PlannedArena> memory() const {
    std::vector<PlannedArena> all;
    const auto add = [&](const std::string& prefix, const Arena& arena) {
      if (arena.high_water_bytes() == 0) return;
      std::vector<Arena::Allocation> peak = arena.peak();
      if (peak.empty()) peak.push_back({arena.name(), arena.high_water_bytes()});
      all.push_back({prefix + arena.name(), arena.high_water_bytes(), std::move(peak)});
    };
    const auto add_activations = [&](const std::string& prefix, const ActivationMemory& memory) {
      for (const Arena* arena : {&memory.kept, &memory.saved, &memory.recompute, &memory.scratch}) add(prefix, *arena);
    };
    add("", model_.state);
    add("", model_.numbers);
    add("", step_.gradient_memory());
    add_activations("", step_.memory());
    add_activations("evaluation: ", evaluation_);
    add("", staging_);
    if (snapshots_) add("", snapshots_->memory());
    return all;
  }

 private:
  void observe(PlanObserver* observer) {
    routes_.observe(observer);
    mesh_.observe(observer);
  }

  const TrainConfig& config_;
  std::unique_ptr<ProcessGroup> world_;
  const Mesh mesh_;
  Routes routes_;
  Stream stream_;
  ModelState model_;
  const Transformer transformer_;
  TrainStep step_;
  const Batch batch_;
  DiagnosticsProbe diagnostics_;
  NonFiniteFinder finder_;
  ActivationMemory evaluation_{MemorySource::kNone};
  Arena staging_;
  std::optional<SnapshotRing> snapshots_;
};

DryRun::DryRun(const TrainConfig& config, int rank, double imbalance)
    : rank_(std::make_unique<Rank>(config, rank, imbalance)) {}
DryRun::~DryRun() = default;

void DryRun::step(int64_t micro_steps, PlanObserver& observer, bool logged) {
  rank_->step(micro_steps, observer, logged);
}
void DryRun::evaluate(PlanObserver& observer) { rank_->evaluate(observer); }
int64_t DryRun::micro_steps() const { return rank_->micro_steps(); }
std::vector<PlannedArena> DryRun::memory() const { return rank_->memory(); }

}  // namespace sluice
