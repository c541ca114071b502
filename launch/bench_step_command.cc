#include <algorithm>
#include <chrono>
#include <ctime>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "kernels/peak.h"
#include "launch/commands.h"
#include "launch/shared_config.h"
#include "models/count.h"
#include "parallel/traffic.h"
#include "runtime/diagnostics.h"
#include "runtime/non_finite.h"
#include "runtime/plan/plain_batch.h"
#include "runtime/plan/step_clock.h"
#include "runtime/step.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

double mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size()) / 2, values.end());
  return values[values.size() / 2];
}

/// A line an operation of this rank; averages a step. The plan of all_to_all takes experts for equally popular.
void print_traffic(const TrafficMeter& meter, const std::map<std::pair<std::string, std::string>, int64_t>& plan,
                   int64_t steps) {
  if (meter.by_operation().empty()) return;
  fmt::print("{:<16} {:<15} {:>8} {:>16} {:>16} {:>10}\n", "group", "operation", "calls", "bytes sent", "planned",
             "ms");
  for (const auto& [operation, traffic] : meter.by_operation()) {
    const auto planned = plan.find(operation);
    fmt::print("{:<16} {:<15} {:>8} {:>16} {:>16} {:>10.2f}\n", operation.first, operation.second,
               traffic.calls / steps, traffic.bytes_sent / steps, planned == plan.end() ? 0 : planned->second,
               traffic.seconds * 1e3 / static_cast<double>(steps));
  }
}

/// CPU time of this rank's threads so far.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Looks for values that are not finite as a training run does, and takes the CPU time that it takes.
class TimedFinder : public Probe {
 public:
  TimedFinder(const Mesh& mesh, const ModelState& model, const TrainStep& step) : finder_(mesh, model, step) {}

  void begin_step(Stream& s) { finder_.begin_step(s); }
  void see(const char* what, int64_t layer, Tensor x) override {
    const double start = cpu_seconds();
    finder_.see(what, layer, x);
    seconds_ += cpu_seconds() - start;
  }
  double seconds() const { return seconds_; }

 private:
  NonFiniteFinder finder_;
  double seconds_ = 0;
};

/// The diagnostics of a step that a training run logs, and the CPU time that they take.
class TimedDiagnostics : public Probe {
 public:
  TimedDiagnostics(const ModelConfig& config, const Mesh& mesh)
      : diagnostics_(config, mesh, DiagnosticsProbe::Detail::kCheap) {}

  bool sees_blocks() const override { return true; }
  bool sees_logits() const override { return true; }
  void see_block(StepContext& ctx, int64_t layer, const TokenBatch& batch, const BlockSaved& block, Tensor y) override {
    const double start = cpu_seconds();
    diagnostics_.see_block(ctx, layer, batch, block, y);
    seconds_ += cpu_seconds() - start;
  }
  /// After the step. Returns what they took of the CPU time of the rest of it; every rank calls it.
  double share_of(double step_cpu_seconds) {
    const double rest = step_cpu_seconds - seconds_, start = cpu_seconds();
    StepMetrics metrics;
    add_diagnostics(diagnostics_.finish(), metrics);
    return (seconds_ + cpu_seconds() - start) / rest;
  }

 private:
  DiagnosticsProbe diagnostics_;
  double seconds_ = 0;
};

void check_bench(TrainConfig& config, Session& session) {
  if (!config.data().train_size()) config.mutable_data()->add_train()->set_prefix("unused");
  validate_training(config, session.world().size(), session.cores_per_rank());
}

}  // namespace

void run_bench_step(const BenchStepOptions& options, Session& session) {
  ProcessGroup& world = session.world();
  const TrainConfig config = shared_config(session, options.config, [&](TrainConfig& c) { check_bench(c, session); });
  Compute compute(config.cpu());
  Stream& s = compute.stream();
  const TrainingConfig& training = config.training();
  const DType dtype = compute_dtype(config.precision());
  const Mesh mesh(mesh_shape(config), world);
  ModelState model(config.model(), true, dtype, mesh.shape(), world.rank());
  initialise_parameters(model.records, static_cast<uint64_t>(training.seed()), s, model.weights);
  const Transformer transformer(config.model(), training, dtype, training.sequence_length(), model.state);
  TrainStep step(config, transformer, model, mesh, s);

  const Batch batch = plain_batch(config, 1, static_cast<uint64_t>(mesh.place().dp));
  LossScale scale;
  scale.step_targets = training.global_batch_size() * training.sequence_length();
  scale.micro_step_tokens = training.micro_batch_size() * mesh.shape().dp * training.sequence_length();
  scale.micro_steps = training.global_batch_size() / (training.micro_batch_size() * mesh.shape().dp);
  TrafficMeter meter;
  std::vector<double> seconds;
  double loss = 0, load = 0;
  std::optional<double> diagnostics_share;
  double watched_share = 0;
  for (int64_t i = 1; i <= options.warm_up + options.steps; ++i) {
    if (i == options.warm_up + 1) {
      step.wait_for_weights();
      world.barrier();
      mesh.observe(&meter);
    }
    // The last step that is not measured is one that a training run logs.
    TimedDiagnostics diagnostics(config.model(), mesh);
    TimedFinder finder(mesh, model, step);
    const bool logged = i == options.warm_up;
    step.set_probe(logged ? &diagnostics : nullptr, 1);
    step.set_watch(&finder);
    finder.begin_step(s);
    const double cpu_start = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    const StepResult& result = step.run(s, i, config.optimizer().lr(), scale, [&]() -> const Batch& { return batch; });
    // Those of the other steps arrive in the next one.
    if (i == options.warm_up + options.steps) step.wait_for_weights();
    watched_share = finder.seconds() / (cpu_seconds() - cpu_start);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (logged) diagnostics_share = diagnostics.share_of(cpu_seconds() - cpu_start);
    loss = result.losses.lm_loss;
    load = mean(result.expert_load_max_over_mean);
    if (i > options.warm_up) seconds.push_back(elapsed.count());
  }

  mesh.observe(nullptr);
  const double peak = measure_peak_flops(s) * world.size();
  if (world.rank() != 0) return;
  const double tokens = static_cast<double>(scale.step_targets);
  const double rate = tokens / median(seconds);
  const double best = tokens / *std::min_element(seconds.begin(), seconds.end());
  const double flops = train_flops_per_token(config.model(), training.sequence_length());
  const char* form = options.json
                         ? "{{\"tokens_per_s_median\":{:.1f},\"tokens_per_s_best\":{:.1f},\"mfu\":{:.4f},"
                           "\"peak_gflops\":{:.1f},\"flops_per_token\":{:.0f},\"loss\":{:.6f},\"isa\":\"{}\","
                           "\"expert_load_max_over_mean\":{:.3f},\"communication_ms\":{:.3f},\"bytes_sent\":{},"
                           "\"diagnostics_share\":{},\"watched_share\":{:.5f}}}\n"
                         : "tokens/s {:.1f} median, {:.1f} best; {:.4f} of the {:.1f} GF/s that multiply-adds "
                           "reach; {:.0f} FLOPs a token; loss {:.6f}; {}; busiest expert {:.2f} of the mean; exposed "
                           "communication {:.1f} ms and {} bytes sent a step; diagnostics of a logged step {} of its "
                           "CPU time, looking "
                           "for values that are not finite {:.5f}\n";
  const Traffic traffic = meter.total();
  const double steps = static_cast<double>(options.steps);
  fmt::print(fmt::runtime(form), rate, best, rate * flops / peak, peak / 1e9, flops, loss, isa_name(s.isa), load,
             traffic.seconds * 1e3 / steps, traffic.bytes_sent / options.steps,
             diagnostics_share ? fmt::format("{:.5f}", *diagnostics_share)
             : options.json    ? "null"
                               : "-",
             watched_share);
  if (!options.json) print_traffic(meter, planned_traffic(config, 0, false), options.steps);
}

}  // namespace sluice
