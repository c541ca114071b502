#include <cctype>
#include <ctime>
#include <filesystem>

#include "launch/commands.h"
#include "launch/shared_config.h"
#include "parallel/agree.h"
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

}  // namespace

void run_train(const TrainOptions& options, Session& session, PhaseTimer& startup) {
  ProcessGroup& world = session.world();
  const TrainConfig config = shared_config(
      session, options.config, [&](TrainConfig& c) { validate_training(c, world.size(), session.cores_per_rank()); });
  const std::string run_dir =
      broadcast_string(world, options.run_dir.empty() ? default_run_dir(options.config.file) : options.run_dir);
  startup.mark("config");
  Compute compute(config.cpu());
  startup.mark("self-check");
  train(config, run_dir, world, compute.stream(), startup);
}

}  // namespace sluice
