#include "launch/plan_command.h"

#include <algorithm>
#include <optional>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/config.h"
#include "runtime/model_state.h"
#include "runtime/plan/calibrate.h"
#include "runtime/plan/fit.h"
#include "runtime/plan/plan.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

constexpr size_t kShownLayouts = 8;

double gib(double bytes) { return bytes / (1 << 30); }

/// This machine, whose cores the ranks share, or one of the data file.
class Target {
 public:
  Target(const std::string& device, const TrainConfig& config, int world) {
    if (device == "cpu") {
      const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
      const int busy = std::max(1, std::min(world, cores / static_cast<int>(config.cpu().threads())));
      calibration_.emplace(calibrate(config, busy - 1));
      calibration_->speed.slow_down(
          std::max(1.0, static_cast<double>(world) * static_cast<double>(config.cpu().threads()) / cores));
      Network network;
      network.ranks_a_node = world;
      network.takes_core = true;
      for (Link* link : {&network.within_node, &network.between_nodes}) {
        // A byte is read from its sender's memory, and added or written.
        link->set_bytes_per_s(calibration_->copied_bytes_per_s / 2);
        link->set_latency_s(2e-6);
      }
      target_.emplace(PlanTarget{calibration_->speed, network, static_cast<double>(node_memory_bytes()) / world, 0,
                                 calibration_->timed, cpu_overhead(config.cpu().threads(), world > 1)});
      return;
    }
    machine_ = find_machine(device);
    const DType dtype = compute_dtype(config.precision());
    roofline_.emplace(machine_, dtype);
    target_.emplace(PlanTarget{*roofline_,
                               {machine_.ranks_a_node(), machine_.within_node(), machine_.between_nodes()},
                               machine_.memory_bytes(),
                               dtype == DType::kBF16 ? machine_.bf16_flops() : machine_.f32_flops(),
                               true,
                               {0, static_cast<int64_t>(machine_.reserved_bytes()), true}});
  }
  const PlanTarget& get() const { return *target_; }

 private:
  Machine machine_;
  std::optional<Calibration> calibration_;
  std::optional<Roofline> roofline_;
  std::optional<PlanTarget> target_;
};

/// A time of a plan; null where none is known.
nlohmann::ordered_json known(const RunPlan& plan, double value) {
  return plan.tokens_per_s > 0 ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

nlohmann::ordered_json layout_json(const RunPlan& plan) {
  const MeshShape& m = plan.mesh;
  return {{"mesh", {{"dp", m.dp}, {"tp", m.tp}, {"ep", m.ep}, {"etp", m.etp}, {"edp", m.edp()}}},
          {"memory_bytes", plan.memory.total},
          {"fits", plan.fits},
          {"step_s", known(plan, plan.step.seconds)},
          {"tokens_per_s", known(plan, plan.tokens_per_s)}};
}

void print_json(const TrainConfig& config, const PlanOptions& options, const PlanTarget& target, const RunPlan& plan,
                const std::vector<RunPlan>& layouts) {
  nlohmann::ordered_json out = {{"world", options.world},
                                {"device", options.device},
                                {"precision", TrainConfig::Precision_Name(config.precision())}};
  out.update(layout_json(plan));
  out["parameters_total"] = plan.parameters.total;
  out["parameters_active"] = plan.parameters.active;
  out["flops_per_token"] = plan.flops_per_token;
  out["flops_per_step_of_fullest_rank"] = plan.step.flops();
  out["tokens_per_step"] = config.training().global_batch_size() * config.training().sequence_length();
  out["imbalance"] = config.plan().imbalance();
  out["memory_per_rank"] = nlohmann::ordered_json::object();
  for (const auto& [use, bytes] : plan.memory.uses) out["memory_per_rank"][use] = bytes;
  out["memory_available"] = static_cast<int64_t>(target.memory_bytes);
  out["bytes_sent_per_step"] = nlohmann::ordered_json::array();
  for (const auto& [operation, calls] : plan.step.calls) {
    out["bytes_sent_per_step"].push_back({{"group", operation.first},
                                          {"operation", operation.second},
                                          {"bytes", calls.bytes_sent},
                                          {"ms", known(plan, calls.seconds * 1e3)},
                                          {"exposed_ms", known(plan, calls.exposed * 1e3)}});
  }
  out["ops"] = nlohmann::ordered_json::array();
  for (const auto& [name, op] : plan.step.ops) {
    out["ops"].push_back({{"op", name},
                          {"calls", op.calls},
                          {"flops", op.flops},
                          {"bytes", op.bytes},
                          {"ms", known(plan, op.seconds * 1e3)}});
  }
  out["step_ms"] = known(plan, plan.step.seconds * 1e3);
  if (target.peak_flops > 0) out["mfu"] = plan.mfu;
  out["layouts"] = nlohmann::ordered_json::array();
  for (const RunPlan& layout : layouts) out["layouts"].push_back(layout_json(layout));
  fmt::print("{}\n", out.dump());
}

void print_memory(const RunPlan& plan, const PlanTarget& target) {
  fmt::print("\n{:<20} {:>16} {:>10}\n", "memory of a rank", "bytes", "GiB");
  for (const auto& [use, bytes] : plan.memory.uses) {
    std::string name = use;
    std::replace(name.begin(), name.end(), '_', ' ');
    fmt::print("{:<20} {:>16} {:>10.3f}\n", name, bytes, gib(static_cast<double>(bytes)));
  }
  fmt::print("{:<20} {:>16} {:>10.3f}, of {:.3f} that it may take: {}\n", "in all", plan.memory.total,
             gib(static_cast<double>(plan.memory.total)), gib(target.memory_bytes),
             plan.fits ? "it fits" : "it does NOT fit");
}

/// The ops that take most of a step, and calls to other ranks.
void print_step(const RunPlan& plan) {
  std::vector<std::pair<double, std::string>> ops;
  for (const auto& [name, op] : plan.step.ops) ops.emplace_back(op.seconds, name);
  std::sort(ops.rbegin(), ops.rend());
  constexpr size_t kShownOps = 8;
  if (plan.tokens_per_s == 0) {
    fmt::print(
        "\ntime of a step: not measured, a part of this model would take this machine too much memory or time\n");
    return;
  }
  fmt::print("\n{:<32} {:>12} {:>8}\n", "time of a step", "ms", "%");
  double rest = 0;
  const auto line = [&](const std::string& name, double seconds) {
    fmt::print("{:<32} {:>12.3f} {:>8.1f}\n", name, seconds * 1e3, 100 * seconds / plan.step.seconds);
  };
  for (size_t i = 0; i < ops.size(); ++i) {
    if (i < kShownOps)
      line(ops[i].second, ops[i].first);
    else
      rest += ops[i].first;
  }
  line("other ops", rest);
  line("waiting for other ranks", plan.step.exposed());
  line("in all", plan.step.seconds);
  if (plan.step.calls.empty()) return;
  fmt::print("\n{:<18} {:<15} {:>18} {:>12} {:>12}\n", "group", "operation", "bytes sent", "ms", "exposed ms");
  for (const auto& [operation, calls] : plan.step.calls) {
    fmt::print("{:<18} {:<15} {:>18} {:>12.3f} {:>12.3f}\n", operation.first, operation.second, calls.bytes_sent,
               calls.seconds * 1e3, calls.exposed * 1e3);
  }
}

void print_layouts(const std::vector<RunPlan>& layouts, const RunPlan& plan) {
  if (layouts.size() < 2) return;
  fmt::print("\n{:>5} {:>5} {:>5} {:>5} {:>5} {:>12} {:>12} {:>14}\n", "dp", "tp", "ep", "etp", "edp", "GiB a rank",
             "step ms", "tokens/s");
  for (size_t i = 0; i < layouts.size(); ++i) {
    const RunPlan& l = layouts[i];
    const bool own = l.mesh.tp == plan.mesh.tp && l.mesh.ep == plan.mesh.ep && l.mesh.etp == plan.mesh.etp;
    if (i >= kShownLayouts && !own) continue;
    const auto text = [&](double value, int digits) {
      return l.tokens_per_s > 0 ? fmt::format("{:.{}f}", value, digits) : "-";
    };
    fmt::print("{:>5} {:>5} {:>5} {:>5} {:>5} {:>12.3f} {:>12} {:>14}{}{}\n", l.mesh.dp, l.mesh.tp, l.mesh.ep,
               l.mesh.etp, l.mesh.edp(), gib(static_cast<double>(l.memory.total)), text(l.step.seconds * 1e3, 1),
               text(l.tokens_per_s, 0), l.fits ? "" : "  does not fit", own ? "  this configuration" : "");
  }
}

}  // namespace

void run_plan(const PlanOptions& options) {
  TrainConfig config = load_config(options.config.file, options.config.overrides);
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  // What a GPU is for; nothing is lost, since masters are exact.
  if (options.device != "cpu" && !config.has_precision()) config.set_precision(TrainConfig::BF16);
  ENSURE(options.device != "cpu" || config.precision() != TrainConfig::BF16,
         "precision=BF16 is computed by GPUs only: plan it for --device h100, h200 or b200");
  ENSURE(options.device == "cpu" || config.precision() != TrainConfig::F64,
         "precision=F64 is for verification on CPUs; use BF16 or F32");
  validate_plan(config, options.world, std::max(1, cores / options.world));
  const Target target(options.device, config, options.world);
  const RunPlan plan = plan_run(config, target.get());
  const std::vector<RunPlan> layouts = plan_layouts(config, target.get());
  if (options.json) return print_json(config, options, target.get(), plan, layouts);
  fmt::print("{} parameters, {} of them for a token; {:.4g} FLOPs a token; {} tokens a step\n", plan.parameters.total,
             plan.parameters.active, plan.flops_per_token,
             config.training().global_batch_size() * config.training().sequence_length());
  fmt::print("{} ranks on {} in {}: dp {} x tp {}, experts edp {} x ep {} x etp {}{}", options.world, options.device,
             TrainConfig::Precision_Name(config.precision()), plan.mesh.dp, plan.mesh.tp, plan.mesh.edp(), plan.mesh.ep,
             plan.mesh.etp, plan.tokens_per_s > 0 ? fmt::format("; {:.1f} tokens/s", plan.tokens_per_s) : "");
  fmt::print("{}\n", plan.mfu > 0 ? fmt::format(", {:.1f} % of the peak", 100 * plan.mfu) : "");
  print_memory(plan, target.get());
  print_step(plan);
  print_layouts(layouts, plan);
}

}  // namespace sluice
