#include <cctype>
#include <ctime>
#include <filesystem>
#include <sys/resource.h>

#include <fmt/format.h>

#include "launch/commands.h"
#include "launch/shared_config.h"
#include "models/count.h"
#include "parallel/agree.h"
#include "runtime/plan/fit.h"
#include "runtime/replay.h"
#include "runtime/signals.h"
#include "runtime/train.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

/// runs/<config>-<date>, by rank 0's clock.
std::string default_run_dir(const std::string& config_file) {
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  std::strftime(date, sizeof date, "%Y%m%d-%H%M%S", &local);
  return "runs/" + std::filesystem::path(config_file).stem().string() + "-" + date;
}

class StoppedBySignals : public RunHooks {
 public:
  bool stop_asked() override { return stop_signal_came(); }
};

void print_model(const ModelConfig& model) {
  const ParameterCount count = count_parameters(model);
  const int64_t width = model.has_moe() ? model.moe().moe_intermediate_size() : model.intermediate_size();
  fmt::print(stderr, "model: {} parameters, {} of them for a token; {} of width {}\n", count.total, count.active,
             model.has_moe() ? "experts" : "feed-forward layers", width);
}

/// The largest resident set of a rank so far. Every rank calls it.
void print_peak_memory(ProcessGroup& world) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  int64_t kib = usage.ru_maxrss;
  world.all_reduce({&kib, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  if (world.rank() == 0) fmt::print(stderr, "peak memory of a rank: {:.1f} MiB\n", static_cast<double>(kib) / 1024);
}

}  // namespace

void run_train(const TrainOptions& options, Session& session, PhaseTimer& startup) {
  ProcessGroup& world = session.world();
  const TrainConfig config = shared_config(
      session, options.config, [&](TrainConfig& c) { validate_training(c, world.size(), session.cores_per_rank()); });
  const std::string run_dir =
      broadcast_string(world, options.run_dir.empty() ? default_run_dir(options.config.file) : options.run_dir);
  if (world.rank() == 0) print_model(config.model());
  agree(world, [&] {
    const std::string problem = why_it_does_not_fit(config, world.rank(), session.ranks_on_node(), node_memory_bytes());
    ENSURE(problem.empty(), problem);
  });
  startup.mark("config");
  Compute compute(config.cpu());
  startup.mark("self-check");
  if (options.replay_step > 0) {
    const std::string result = replay_step(config, run_dir, options.replay_step, world, compute.stream());
    if (world.rank() == 0) fmt::print("{}\n", result);
    return;
  }
  StoppedBySignals hooks;
  train(config, run_dir, world, compute.stream(), startup, &hooks);
  print_peak_memory(world);
}

}  // namespace sluice
