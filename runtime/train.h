#pragma once

#include <string>

#include "configs/train.pb.h"
#include "parallel/process_group.h"
#include "runtime/phase_timer.h"
#include "runtime/run_hooks.h"

namespace sluice {

/// Trains by a validated configuration, writing to run_dir (created when missing): config.textproto, metrics, event
/// file, checkpoints and decisions. A folder that holds a checkpoint of the run goes on from the newest good one; one
/// of a run that has none yet starts over. Progress goes to standard error. `startup` has been running since the
/// program began; its summary is printed after the first step. Every rank of `world` calls it.
/// `hooks`, if there are any, take part in its steps.
/// Throws Error on data that does not fit the configuration or a folder that cannot be written or holds another run;
/// AgreedError of Fault::kDiverged when too many updates in a row are skipped or it goes back too often, and of
/// Fault::kNotSaved at the end when a checkpoint or metrics could not be written; of Fault::kPreempted when the hooks
/// asked to stop and all is saved.
void train(const TrainConfig& config, const std::string& run_dir, ProcessGroup& world, Stream& s, PhaseTimer& startup,
           RunHooks* hooks = nullptr);

}  // namespace sluice
