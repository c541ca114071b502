#include "runtime/run_start.h"

#include <vector>

#include <glog/logging.h>

#include "kernels/elementwise.h"
#include "parallel/agree.h"
#include "runtime/initial_weights.h"
#include "runtime/metrics/audit_log.h"
#include "runtime/run_folder.h"
#include "runtime/step_folders.h"

namespace sluice {
namespace {

void load_initial(const InitialCheckpoint& from, const ModelConfig& config, RunWatch& watch, ProcessGroup& world,
                  TrainedModel& model) {
  std::vector<std::string> missing;
  watch.saving([&] {
    agree(world, [&] {
      missing = load_initial_weights(from, config, model.state);
      if (from.load() == InitialCheckpoint::ALL) load_initial_moments(from, model.state, model.train_step.optimizer());
    });
  });
  if (world.rank() != 0) return;
  for (const std::string& name : missing) LOG(INFO) << name << " starts as in a new model";
}

}  // namespace

void RunStart::note(const std::string& run_dir) const {
  if (resumed) {
    const int64_t rewinds = position.stability.rewind().rewinds();
    std::string from = "from " + step_folder(run_dir, position.step);
    if (rewinds > 0) from += concat(", after rewind ", rewinds);
    const std::string reason = resumed->changes.empty() ? from : from + "; " + resumed->changes;
    LOG(INFO) << "the run goes on " << reason;
    append_audit(run_dir, position.step, "resume", reason);
  } else if (restart_reason) {
    LOG(INFO) << "the run starts over: " << *restart_reason;
    append_audit(run_dir, 0, "restart", *restart_reason);
    set_metrics_aside(run_dir);
  }
}

RunStart fill_model(const std::string& run_dir, const Mesh& mesh, RunWatch& watch, TrainedModel& model, Stream& s,
                    const std::function<bool()>& stop_asked) {
  const TrainConfig& config = model.identity.config;
  ProcessGroup& world = mesh.world();
  RunStart start;
  // The padding.
  fill_zero(s, model.state.weights);
  // Ranks read for as long as their files take.
  watch.saving([&] {
    start.resumed = resume(run_dir, model.identity, mesh, model.state, model.train_step.optimizer(), [&] {
      if (stop_asked()) throw AgreedError("", Fault::kPreempted);
    });
  });
  if (start.resumed) {
    start.position = start.resumed->position;
    return start;
  }
  agree(world, [&] {
    if (world.rank() == 0) start.restart_reason = restart_reason(run_dir, config);
  });
  initialise_parameters(model.state.records, static_cast<uint64_t>(config.training().seed()), s, model.state.weights);
  if (config.has_initial_checkpoint()) {
    load_initial(config.initial_checkpoint(), config.model(), watch, world, model);
  }
  return start;
}

}  // namespace sluice
