#include "runtime/run_watch.h"

#include "models/parameters.h"
#include "parallel/fatal.h"

namespace sluice {
namespace {

/// Of each stage, forward and backward.
std::vector<std::string> place_names(const ModelConfig& config) {
  std::vector<std::string> names;
  const Stages stages(config);
  for (int stage = 0; stage <= stages.head(); ++stage) {
    const std::string name = stage == Stages::embedding() ? "embedding"
                             : stage == stages.head()     ? "output layer"
                                                          : concat("layer ", stage - Stages::block(0));
    names.push_back(name + " forward");
    names.push_back(name + " backward");
  }
  return names;
}

}  // namespace

RunWatch::RunWatch(const TrainConfig& config, const Mesh& mesh)
    : save_deadline_s_(config.watchdog().save_deadline_s()), fingerprint_(place_names(config.model())) {
  if (mesh.world().size() == 1 || config.watchdog().deadline_s() == 0) return;
  WatchdogOptions options;
  options.deadline_s = config.watchdog().deadline_s();
  options.places = place_names(config.model());
  options.report = [](const std::string& text) { fatal(exit_code(Fault::kHang), text.c_str()); };
  watchdog_.emplace(mesh, options);
}

std::vector<GroupObserver*> RunWatch::step_observers() {
  std::vector<GroupObserver*> all{&fingerprint_};
  if (watchdog_) all.insert(all.begin(), observer());
  return all;
}

void RunWatch::begin_step(int64_t step) {
  fingerprint_.reset();
  if (watchdog_) watchdog_->begin_step(step);
}

void RunWatch::end_step() {
  if (watchdog_) watchdog_->end_step();
}

void RunWatch::at(uint32_t place) {
  fingerprint_.at(place);
  if (watchdog_) watchdog_->at(place);
}

void RunWatch::before_forward(int stage) { at(static_cast<uint32_t>(2 * stage)); }
void RunWatch::before_backward(int stage) { at(static_cast<uint32_t>(2 * stage + 1)); }
void RunWatch::after_backward(int) { at(CallPublisher::kNowhere); }

}  // namespace sluice
