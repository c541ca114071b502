#include "runtime/validate.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "kernels/core/isa.h"
#include "models/count.h"
#include "runtime/stability/indicators.h"
#include "runtime/validate_model.h"

namespace sluice {
namespace {

constexpr int64_t kMostRanks = 1 << 20;

void check_activation_count(ConfigReport& report, const TrainConfig& config) {
  const ModelConfig& m = config.model();
  const ConfigReport::Factor sequences{"training.micro_batch_size", config.training().micro_batch_size()},
      length{"training.sequence_length", config.training().sequence_length()};
  report.product(
      "activations",
      {sequences, length, {"model.num_attention_heads", m.num_attention_heads()}, {"model.head_dim", m.head_dim()}});
  if (m.has_moe()) {
    report.product("activations", {sequences,
                                   length,
                                   {"model.moe.top_k", m.moe().top_k()},
                                   {"model.moe.moe_intermediate_size", m.moe().moe_intermediate_size()}});
    report.product(
        "activations",
        {sequences, length, {"model.moe.shared_expert_intermediate_size", m.moe().shared_expert_intermediate_size()}});
  } else {
    report.product("activations", {sequences, length, {"model.intermediate_size", m.intermediate_size()}});
  }
}

/// The divisors of n as "1, 2, 4".
std::string divisors(int64_t n) {
  std::string list;
  for (int64_t i = 1; i <= std::min<int64_t>(n, 4096); ++i) {
    if (n % i == 0) list += (list.empty() ? "" : ", ") + std::to_string(i);
  }
  return list;
}

/// That an axis cuts a size into equal parts; tells which sizes of the axis would.
void splits(ConfigReport& report, const char* axis, int64_t parts, const char* field, int64_t size) {
  if (size < 1) return;
  report.check(size % parts == 0, axis, "=", parts, " does not divide ", field, "=", size, "; use one of ",
               divisors(size));
}

void check_tensor_parallel(ConfigReport& report, const TrainConfig& config) {
  const ModelConfig& m = config.model();
  const int64_t tp = config.mesh().tp(), kv_heads = m.num_key_value_heads();
  splits(report, "mesh.tp", tp, "model.num_attention_heads", m.num_attention_heads());
  if (kv_heads >= 1) {
    report.check(kv_heads % tp == 0 || tp % kv_heads == 0, "mesh.tp=", tp,
                 " neither divides model.num_key_value_heads=", kv_heads, " nor is a multiple of it; use one of ",
                 divisors(kv_heads), " or a multiple of ", kv_heads);
  }
  splits(report, "mesh.tp", tp, "model.vocab_size", m.vocab_size());
  if (!m.has_moe()) splits(report, "mesh.tp", tp, "model.intermediate_size", m.intermediate_size());
  splits(report, "mesh.tp", tp, "model.moe.shared_expert_intermediate_size", m.moe().shared_expert_intermediate_size());
  const int64_t tokens = config.training().micro_batch_size() * config.training().sequence_length();
  splits(report, "mesh.tp", tp, "training.micro_batch_size * training.sequence_length", tokens);
}

void check_expert_parallel(ConfigReport& report, const TrainConfig& config, int64_t world) {
  const MeshConfig& mesh = config.mesh();
  const ModelConfig& m = config.model();
  report.check(world % (mesh.ep() * mesh.etp()) == 0, "mesh.ep * mesh.etp = ", mesh.ep(), " * ", mesh.etp(), " = ",
               mesh.ep() * mesh.etp(), " does not divide the ", world, " ranks; use a product that is one of ",
               divisors(world));
  if (!m.has_moe()) {
    report.check(mesh.ep() == 1 && mesh.etp() == 1, "mesh.ep=", mesh.ep(), " and mesh.etp=", mesh.etp(),
                 " need model.moe; use 1 and 1");
    return;
  }
  splits(report, "mesh.ep", mesh.ep(), "model.moe.num_experts", m.moe().num_experts());
  splits(report, "mesh.etp", mesh.etp(), "model.moe.moe_intermediate_size", m.moe().moe_intermediate_size());
}

/// Resolves mesh.dp; false when the mesh does not fit the world.
bool check_mesh(ConfigReport& report, TrainConfig& config, int world_size) {
  MeshConfig& mesh = *config.mutable_mesh();
  bool sizes = true;
  for (const auto& [name, size] : {std::pair{"mesh.tp", mesh.tp()}, {"mesh.ep", mesh.ep()}, {"mesh.etp", mesh.etp()}}) {
    sizes &= report.check(size >= 1 && size <= kMostRanks, name, "=", size, " must be between 1 and ", kMostRanks);
  }
  report.above_zero("mesh.expert_budget", mesh.expert_budget());
  if (!sizes) return false;
  if (!mesh.has_dp()) {
    if (!report.check(world_size % mesh.tp() == 0, "mesh.tp=", mesh.tp(), " does not divide a world of ", world_size,
                      " ranks; use one of ", divisors(world_size), ", or a multiple of ", mesh.tp(), " ranks")) {
      return false;
    }
    mesh.set_dp(world_size / mesh.tp());
  }
  if (!report.check(mesh.dp() >= 1 && mesh.dp() <= kMostRanks, "mesh.dp=", mesh.dp(), " must be within 1..",
                    kMostRanks)) {
    return false;
  }
  if (!report.check(mesh.dp() * mesh.tp() == world_size, "mesh.dp * mesh.tp = ", mesh.dp(), " * ", mesh.tp(),
                    " does not match a world of ", world_size, " ranks; use ", mesh.dp() * mesh.tp(), " ranks",
                    world_size % mesh.tp() == 0 ? concat(", or mesh.dp=", world_size / mesh.tp()) : "")) {
    return false;
  }
  check_tensor_parallel(report, config);
  check_expert_parallel(report, config, world_size);
  return true;
}

void check_batch(ConfigReport& report, const char* field, int64_t global, const TrainingConfig& t,
                 const MeshConfig& mesh) {
  const int64_t micro_step = t.micro_batch_size() * mesh.dp();
  report.check(global % micro_step == 0, field, "=", global,
               " is not divisible by training.micro_batch_size * mesh.dp = ", t.micro_batch_size(), " * ", mesh.dp(),
               " = ", micro_step, "; use ", global < micro_step ? "" : concat(global / micro_step * micro_step, " or "),
               (global / micro_step + 1) * micro_step);
}

void check_training(ConfigReport& report, const TrainConfig& config, bool mesh_ok) {
  const TrainingConfig& t = config.training();
  report.positive("training.steps", t.has_steps(), t.steps());
  const bool length = report.positive("training.sequence_length", t.has_sequence_length(), t.sequence_length());
  const bool micro = report.positive("training.micro_batch_size", t.has_micro_batch_size(), t.micro_batch_size());
  const bool global = report.positive("training.global_batch_size", t.has_global_batch_size(), t.global_batch_size());
  if (micro && length) {
    report.check(tokens_fit(config.model(), t.micro_batch_size(), t.sequence_length()),
                 "training.micro_batch_size=", t.micro_batch_size(),
                 " times training.sequence_length=", t.sequence_length(),
                 " (times model.moe.top_k) must stay below 2^31");
    check_activation_count(report, config);
  }
  if (micro && global && mesh_ok) {
    check_batch(report, "training.global_batch_size", t.global_batch_size(), t, config.mesh());
    int64_t last = 0;
    for (int i = 0; i < t.batch_ramp_size(); ++i) {
      const std::string field = "training.batch_ramp[" + std::to_string(i) + "]";
      const BatchRamp& ramp = t.batch_ramp(i);
      report.check(ramp.before_step() > last, field, ".before_step=", ramp.before_step(), " must be above ", last);
      last = ramp.before_step();
      if (report.positive(field + ".global_batch_size", ramp.has_global_batch_size(), ramp.global_batch_size())) {
        check_batch(report, (field + ".global_batch_size").c_str(), ramp.global_batch_size(), t, config.mesh());
      }
    }
  }
  for (int i = 0; i < t.recompute_size(); ++i) {
    const RecomputeRange& range = t.recompute(i);
    report.check(range.first_layer() >= 0 && range.first_layer() <= range.last_layer() &&
                     range.last_layer() < config.model().num_layers(),
                 "training.recompute[", i, "]: layers ", range.first_layer(), "..", range.last_layer(),
                 " are not within 0..", config.model().num_layers() - 1);
    for (int before = 0; before < i; ++before) {
      const RecomputeRange& other = t.recompute(before);
      report.check(range.last_layer() < other.first_layer() || range.first_layer() > other.last_layer(),
                   "training.recompute[", i, "]: layers ", range.first_layer(), "..", range.last_layer(),
                   " are in training.recompute[", before, "] too");
    }
  }
}

void check_qk_clip(ConfigReport& report, const TrainConfig& config) {
  if (config.optimizer().qk_clip() == 0) return;
  report.check(!config.model().qk_norm(),
               "optimizer.qk_clip cannot make queries smaller that model.qk_norm norms; set model.qk_norm to false");
  for (const GateSpec& gate : config.model().gates()) {
    report.check(
        gate.position() != GateSpec::G4 || gate.combine() == GateSpec::MULTIPLY,
        "optimizer.qk_clip makes queries smaller by their weights, but a gate G4 with combine: ADD adds to them");
  }
}

void check_optimizer(ConfigReport& report, const OptimizerConfig& o, int64_t steps) {
  report.check(o.has_lr(), "optimizer.lr is missing");
  report.not_negative("optimizer.lr", o.lr());
  report.check(o.min_lr() >= 0 && o.min_lr() <= o.lr(), "optimizer.min_lr=", o.min_lr(),
               " must be between 0 and optimizer.lr=", o.lr());
  report.check(o.warmup_steps() >= 0 && o.warmup_steps() <= steps, "optimizer.warmup_steps=", o.warmup_steps(),
               " must be between 0 and training.steps=", steps);
  report.not_negative("optimizer.weight_decay", o.weight_decay());
  report.check(o.beta1() >= 0 && o.beta1() < 1, "optimizer.beta1=", o.beta1(), " must be in [0, 1)");
  report.check(o.beta2() >= 0 && o.beta2() < 1, "optimizer.beta2=", o.beta2(), " must be in [0, 1)");
  report.above_zero("optimizer.epsilon", o.epsilon());
  report.not_negative("optimizer.clip", o.clip());
  report.not_negative("optimizer.update_clip", o.update_clip());
  report.not_negative("optimizer.qk_clip", o.qk_clip());
  report.check(
      !o.independent_decay() || o.has_weight_decay(),
      "optimizer.independent_decay=true needs optimizer.weight_decay, the share that weights lose in each step at "
      "the peak learning rate; 1e-4 is usual");
  report.check(o.zero_stage() >= 0 && o.zero_stage() <= 2, "optimizer.zero_stage=", o.zero_stage(),
               " must be 0, 1 or 2");
  if (o.has_decay_steps()) {
    report.check(o.decay_steps() >= 0 && o.decay_steps() <= steps - o.warmup_steps(),
                 "optimizer.decay_steps=", o.decay_steps(), " and optimizer.warmup_steps=", o.warmup_steps(),
                 " do not fit training.steps=", steps);
  }
}

void check_watchdog(ConfigReport& report, const WatchdogConfig& watchdog) {
  const auto within = [&](const char* field, double value) {
    report.check(value == 0 || (value >= 1 && value <= 1e6), field, "=", value,
                 " must be 0 or between 1 and 1000000 seconds");
  };
  within("watchdog.deadline_s", watchdog.deadline_s());
  within("watchdog.save_deadline_s", watchdog.save_deadline_s());
}

void check_rewind(ConfigReport& report, const RewindConfig& r) {
  constexpr int64_t kMost = 1000000000;
  const auto at_least = [&](const char* field, int64_t least, int64_t value) {
    report.check(value >= least && value <= kMost, field, "=", value, " must be between ", least, " and ", kMost);
  };
  at_least("stability.rewind.steps_back", 1, r.steps_back());
  at_least("stability.rewind.snapshot_every", 1, r.snapshot_every());
  at_least("stability.rewind.snapshots", 1, r.snapshots());
  at_least("stability.rewind.lr_steps", 0, r.lr_steps());
  at_least("stability.rewind.most_rewinds", 0, r.most_rewinds());
  at_least("stability.rewind.after_skips", 0, r.after_skips());
  report.check(r.lr_factor() > 0 && r.lr_factor() <= 1, "stability.rewind.lr_factor=", r.lr_factor(),
               " must be above 0 and at most 1");
}

void check_stability(ConfigReport& report, const StabilityConfig& s) {
  constexpr int64_t kLargestWindow = 100000;
  const auto window = [&](const char* field, int64_t least, int64_t values) {
    report.check(values >= least && values <= kLargestWindow, field, "=", values, " must be between ", least, " and ",
                 kLargestWindow, " values");
  };
  report.above_zero("stability.threshold", s.threshold());
  report.above_zero("stability.lm_loss.threshold", s.lm_loss().has_threshold() ? s.lm_loss().threshold() : 1);
  report.above_zero("stability.grad_norm.threshold", s.grad_norm().has_threshold() ? s.grad_norm().threshold() : 1);
  report.above_zero("stability.indicators.threshold", s.indicators().threshold());
  report.check(s.indicators().every() >= 1, "stability.indicators.every=", s.indicators().every(),
               " must be at least 1");
  for (Indicator indicator : all_indicators()) {
    const SignalPolicy& policy = policy_of(s, indicator);
    const std::string name = concat("stability.indicators.", name_of(indicator));
    if (policy.has_threshold()) report.above_zero((name + ".threshold").c_str(), policy.threshold());
    report.check(policy.action() != SignalPolicy::SKIP, name,
                 ".action=SKIP comes too late: the update is made when it is known; LOG and REWIND can be chosen");
  }
  report.check(s.most_skips_in_a_row() >= 1, "stability.most_skips_in_a_row=", s.most_skips_in_a_row(),
               " must be 1 or more");
  window("stability.level_window", 5, s.level_window());
  window("stability.trend_window", 5, s.trend_window());
  window("stability.noise_window", 30, s.noise_window());
  report.check(s.episode_gap_steps() >= 0, "stability.episode_gap_steps=", s.episode_gap_steps(),
               " must not be negative");
  check_rewind(report, s.rewind());
}

void check_data(ConfigReport& report, const DataConfig& d) {
  for (int i = 0; i < d.train_size(); ++i) {
    report.check(!d.train(i).prefix().empty(), "data.train[", i, "].prefix is missing");
    report.check(d.train(i).weight() > 0, "data.train[", i, "].weight=", d.train(i).weight(), " must be positive");
  }
  std::set<std::string> names;
  for (int i = 0; i < d.eval_size(); ++i) {
    report.check(!d.eval(i).prefix().empty(), "data.eval[", i, "].prefix is missing");
    report.check(!d.eval(i).name().empty(), "data.eval[", i, "].name is missing");
    report.check(names.insert(d.eval(i).name()).second, "data.eval[", i, "].name=", d.eval(i).name(),
                 " is there twice");
  }
  report.check(d.eval_every() >= 0, "data.eval_every=", d.eval_every(), " must not be negative");
  report.check(d.eval_windows() >= 0, "data.eval_windows=", d.eval_windows(), " must not be negative");
  report.check(d.prefetch() >= 1 && d.prefetch() <= 64, "data.prefetch=", d.prefetch(), " must be between 1 and 64");
}

void check_evaluation(ConfigReport& report, const TrainConfig& config) {
  constexpr int64_t kLongestTask = int64_t{1} << 24, kMostSamples = 1000000, kLargestMap = 4096;
  const EvaluationConfig& e = config.evaluation();
  report.check(e.skip_first() >= 0, "evaluation.skip_first=", e.skip_first(), " must not be negative");
  for (int64_t length : e.tasks().lengths()) report.positive("evaluation.tasks.lengths", true, length, kLongestTask);
  report.positive("evaluation.tasks.samples", true, e.tasks().samples(), kMostSamples);
  report.check(!e.has_attention_map() || e.attention_map().layers_size() > 0,
               "evaluation.attention_map.layers is missing: at least one layer");
  report.positive("evaluation.attention_map.positions", true, e.attention_map().positions(), kLargestMap);
  for (int64_t layer : e.attention_map().layers()) {
    report.check(layer >= 0 && layer < config.model().num_layers(), "evaluation.attention_map.layers=", layer,
                 " must be between 0 and ", config.model().num_layers() - 1);
  }
}

void check_checkpoint(ConfigReport& report, const CheckpointConfig& config) {
  report.check(config.every() >= 0, "checkpoint.every=", config.every(), " must not be negative");
  report.check(config.keep() >= 1, "checkpoint.keep=", config.keep(), " must be at least 1");
  const bool matches = config.keep_every() == 0 || (config.every() > 0 && config.keep_every() % config.every() == 0);
  report.check(config.keep_every() >= 0 && matches, "checkpoint.keep_every=", config.keep_every(),
               " must be a multiple of checkpoint.every=", config.every());
}

}  // namespace

void validate_stability(const StabilityConfig& stability) {
  ConfigReport report;
  check_stability(report, stability);
  report.finish();
}

MeshShape mesh_shape(const TrainConfig& config) {
  const MeshConfig& mesh = config.mesh();
  MeshShape shape;
  shape.dp = static_cast<int>(mesh.dp());
  shape.tp = static_cast<int>(mesh.tp());
  shape.ep = static_cast<int>(mesh.ep());
  shape.etp = static_cast<int>(mesh.etp());
  shape.kv_copies = static_cast<int>(std::max<int64_t>(1, mesh.tp() / config.model().num_key_value_heads()));
  return shape;
}

bool tokens_fit(const ModelConfig& model, int64_t sequences, int64_t length) {
  const int64_t slots = model.has_moe() ? std::max<int64_t>(model.moe().top_k(), 1) : 1;
  int64_t rows = 0;
  return !__builtin_mul_overflow(sequences, length, &rows) && !__builtin_mul_overflow(rows, slots, &rows) &&
         rows < ConfigReport::kLargestSize;
}

void validate_model(const ModelConfig& model) {
  ConfigReport report;
  check_model(report, model);
  report.finish();
}

void validate_plan(TrainConfig& config, int world_size, int cores_per_rank) {
  if (!config.cpu().has_threads()) config.mutable_cpu()->set_threads(cores_per_rank);
  ConfigReport report;
  check_model(report, config.model());
  // Before the mesh divides the width.
  if (report.empty()) report.collect([&] { match_parameters(*config.mutable_model()); });
  const bool mesh_ok = check_mesh(report, config, world_size);
  check_training(report, config, mesh_ok);
  check_optimizer(report, config.optimizer(), config.training().steps());
  check_qk_clip(report, config);
  check_data(report, config.data());
  check_watchdog(report, config.watchdog());
  check_stability(report, config.stability());
  report.check(config.logging().every() >= 1, "logging.every=", config.logging().every(), " must be at least 1");
  check_checkpoint(report, config.checkpoint());
  report.check(config.cpu().threads() >= 1 && config.cpu().threads() <= 1024, "cpu.threads=", config.cpu().threads(),
               " must be between 1 and 1024");
  report.collect([&] { parse_isa(config.cpu().isa()); });
  check_evaluation(report, config);
  report.check(!config.has_initial_checkpoint() || !config.initial_checkpoint().path().empty(),
               "initial_checkpoint.path is missing");
  const double imbalance = config.plan().imbalance();
  report.check(std::isfinite(imbalance) && imbalance > 0, "plan.imbalance=", imbalance, " must be a positive number");
  report.finish();
  OptimizerConfig& optimizer = *config.mutable_optimizer();
  if (!optimizer.has_decay_steps()) {
    optimizer.set_decay_steps(
        std::min(config.training().steps() / 5, config.training().steps() - optimizer.warmup_steps()));
  }
}

void validate_training(TrainConfig& config, int world_size, int cores_per_rank) {
  ConfigReport report;
  report.collect([&] { validate_plan(config, world_size, cores_per_rank); });
  report.check(config.data().train_size() > 0, "data.train is missing: at least one set {prefix: ...}");
  report.check(config.device() == TrainConfig::CPU, "device=CUDA: this build has no CUDA backend; use CPU");
  report.check(config.precision() != TrainConfig::BF16, "precision=BF16 needs device: CUDA; use F32");
  report.finish();
}

}  // namespace sluice
