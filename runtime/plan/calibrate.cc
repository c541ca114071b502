#include "runtime/plan/calibrate.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "models/count.h"
#include "parallel/planned_group.h"
#include "runtime/plan/fit.h"
#include "runtime/plan/plain_batch.h"
#include "runtime/step.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

// Of the model that is timed: what takes a core about a second.
constexpr int64_t kMostParameters = 80'000'000;
constexpr double kMostFlops = 60e9;
// Machines are faster and slower for a second or two.
constexpr double kSeconds = 6;
constexpr size_t kMostSteps = 200;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Two layers and two micro-steps, the last layer computed as that of the whole model is.
void keep_two_layers(TrainConfig& config) {
  const auto recomputes = [&](int64_t layer) {
    return std::any_of(
        config.training().recompute().begin(), config.training().recompute().end(),
        [&](const RecomputeRange& range) { return range.first_layer() <= layer && layer <= range.last_layer(); });
  };
  const int64_t layers = std::min<int64_t>(2, config.model().num_layers());
  const bool first = recomputes(0), last = recomputes(config.model().num_layers() - 1);
  TrainingConfig& training = *config.mutable_training();
  training.clear_recompute();
  for (const int64_t layer : {int64_t{0}, layers - 1}) {
    if (!(layer == 0 ? first : last) || (layer == 0 && layers == 1 && training.recompute_size() > 0)) continue;
    RecomputeRange& range = *training.add_recompute();
    range.set_first_layer(layer);
    range.set_last_layer(layer);
  }
  config.mutable_model()->set_num_layers(layers);
  const int64_t together = training.micro_batch_size() * config.mesh().dp();
  training.set_global_batch_size(together * std::min<int64_t>(2, training.global_batch_size() / together));
  training.clear_batch_ramp();
}

/// Halves what makes a step long. Returns whether there was something to halve.
bool halve(TrainConfig& config) {
  ModelConfig& model = *config.mutable_model();
  TrainingConfig& training = *config.mutable_training();
  const int64_t tp = config.mesh().tp();
  const int64_t words = model.vocab_size() / 2;
  if (words >= 8192 && words % tp == 0) {
    model.set_vocab_size(words);
    return true;
  }
  const int64_t parts = config.mesh().ep() * 2;
  const int64_t experts = model.has_moe() ? model.moe().num_experts() / 2 : 0;
  const bool fewer_experts =
      experts >= std::max(model.moe().top_k(), parts / 2) && model.moe().num_experts() % parts == 0;
  if (model.has_moe() && fewer_experts) model.mutable_moe()->set_num_experts(experts);
  // As many rows an expert as before.
  if (training.micro_batch_size() % 2 == 0) {
    training.set_micro_batch_size(training.micro_batch_size() / 2);
    training.set_global_batch_size(training.global_batch_size() / 2);
  } else if (training.sequence_length() >= 256 && training.sequence_length() / 2 % tp == 0) {
    training.set_sequence_length(training.sequence_length() / 2);
  } else {
    return fewer_experts;
  }
  return true;
}

/// Of a rank in a micro-step.
double flops_of(const TrainConfig& config) {
  const TrainingConfig& t = config.training();
  const double tokens =
      static_cast<double>(t.micro_batch_size() * t.sequence_length()) / static_cast<double>(config.mesh().tp());
  return tokens * train_flops_per_token(config.model(), t.sequence_length());
}

TrainConfig part_of(const TrainConfig& config) {
  TrainConfig part = config;
  keep_two_layers(part);
  const auto is_long = [&] {
    return count_parameters(part.model()).total / part.mesh().tp() > kMostParameters || flops_of(part) > kMostFlops;
  };
  while (is_long() && halve(part)) {
  }
  return part;
}

/// The ops of a step, each timed from the end of the one before.
class TimedStep : public OpObserver {
 public:
  void before(const OpCost&) override {}
  void after(const OpCost& cost) override {
    const Clock::time_point now = Clock::now();
    ops_.emplace_back(cost, std::chrono::duration<double>(now - last_).count());
    last_ = now;
  }

  double seconds() const { return std::chrono::duration<double>(last_ - start_).count(); }
  void add_to(MeasuredSpeed& speed) const {
    for (const auto& [cost, seconds] : ops_) speed.add(cost, seconds);
  }

 private:
  Clock::time_point start_ = Clock::now(), last_ = start_;
  std::vector<std::pair<OpCost, double>> ops_;
};

/// A rank that computes for real, and talks to nobody.
class TimedRank {
 public:
  explicit TimedRank(const TrainConfig& config)
      : config_(config),
        world_(make_planned_group(0, mesh_shape(config).world())),
        mesh_(mesh_shape(config), *world_),
        pool_(static_cast<int>(config.cpu().threads())),
        stream_{Device::kCpu, parse_isa(config.cpu().isa()), &pool_},
        model_(config.model(), config.optimizer().decay_embeddings(), compute_dtype(config.precision()), mesh_.shape(),
               0),
        transformer_(config.model(), config.training(), compute_dtype(config.precision()),
                     config.training().sequence_length(), model_.state),
        step_(config, transformer_, model_, mesh_, stream_),
        batch_(plain_batch(config, mesh_.shape().tp)) {
    initialise_parameters(model_.records, 1, stream_, model_.weights);
  }

  TimedStep step() {
    const TrainingConfig& training = config_.training();
    LossScale scale;
    scale.micro_steps = training.global_batch_size() / (training.micro_batch_size() * mesh_.shape().dp);
    scale.micro_step_tokens = batch_.target_count * mesh_.shape().dp;
    scale.step_targets = scale.micro_step_tokens * scale.micro_steps;
    TimedStep timed;
    stream_.observer = &timed;
    step_.run(stream_, 1, 0, scale, [this]() -> const Batch& { return batch_; });
    step_.wait_for_weights();
    stream_.observer = nullptr;
    return timed;
  }

 private:
  const TrainConfig& config_;
  std::unique_ptr<ProcessGroup> world_;
  const Mesh mesh_;
  ThreadPool pool_;
  Stream stream_;
  ModelState model_;
  const Transformer transformer_;
  TrainStep step_;
  const Batch batch_;
};

double measure_copying() {
  constexpr size_t kBytes = size_t{64} << 20;
  std::vector<char> from(kBytes, 1), to(kBytes, 2);
  double best = 1;
  for (int i = 0; i < 3; ++i) {
    const Clock::time_point start = Clock::now();
    std::memcpy(to.data(), from.data(), kBytes);
    best = std::min(best, seconds_since(start));
    from[static_cast<size_t>(i)] = to[kBytes - 1];
  }
  return static_cast<double>(kBytes) / best;
}

}  // namespace

void MeasuredSpeed::add(const OpCost& cost, double seconds) {
  for (Sum* sum : {&timed_[{cost.op, cost.flops, cost.bytes}], &kinds_[cost.op]}) {
    ++sum->calls;
    sum->seconds += seconds;
    sum->flops += cost.flops;
    sum->bytes += cost.bytes;
  }
}

double MeasuredSpeed::seconds(const OpCost& cost) const { return factor_ * as_timed(cost); }

double MeasuredSpeed::as_timed(const OpCost& cost) const {
  if (const auto same = timed_.find({cost.op, cost.flops, cost.bytes}); same != timed_.end()) {
    return same->second.seconds / same->second.calls;
  }
  const auto of_kind = kinds_.find(cost.op);
  if (of_kind == kinds_.end()) return 0;
  const Sum& kind = of_kind->second;
  if (cost.flops > 0 && kind.flops > 0) return cost.flops * kind.seconds / kind.flops;
  return kind.bytes > 0 ? cost.bytes * kind.seconds / kind.bytes : 0;
}

Calibration calibrate(const TrainConfig& config, int neighbours) {
  const TrainConfig part = part_of(config);
  // A quarter of the machine's memory, for weights, gradients, moments and what else a rank takes.
  const int64_t each = 24 * count_parameters(part.model()).total + (int64_t{256} << 20), all = node_memory_bytes() / 4;
  Calibration calibration;
  calibration.copied_bytes_per_s = measure_copying();
  if (each > all || flops_of(part) > 10 * kMostFlops) return calibration;
  neighbours = static_cast<int>(std::min<int64_t>(neighbours, all / each - 1));
  calibration.timed = true;
  std::atomic<bool> done{false};
  std::vector<std::jthread> others;
  for (int i = 0; i < neighbours; ++i) {
    others.emplace_back([&] {
      try {
        TimedRank rank(part);
        while (!done) rank.step();
      } catch (const Error&) {
        // One neighbour less.
      }
    });
  }
  // Also when this rank fails.
  const struct Finish {
    std::atomic<bool>& done;
    ~Finish() { done = true; }
  } finish{done};
  TimedRank rank(part);
  rank.step();
  std::vector<TimedStep> steps;
  const Clock::time_point start = Clock::now();
  while (steps.size() < 3 || (seconds_since(start) < kSeconds && steps.size() < kMostSteps)) {
    steps.push_back(rank.step());
  }
  // Without those in which the machine did something else, or less than usual.
  std::ranges::sort(steps, {}, &TimedStep::seconds);
  for (size_t i = steps.size() / 4; i < steps.size() - steps.size() / 4; ++i) steps[i].add_to(calibration.speed);
  calibration.copied_bytes_per_s = measure_copying();
  return calibration;
}

}  // namespace sluice
