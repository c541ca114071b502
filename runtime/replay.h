#pragma once

#include <string>

#include "configs/train.pb.h"
#include "kernels/core/stream.h"
#include "parallel/process_group.h"

namespace sluice {

/// Runs a step of a run again, from its newest checkpoint before it or from the initial weights, and compares bits: of
/// losses and gradient norms with RUN/metrics.jsonl, of weights and moments between two runs of the step, and with the
/// checkpoint of the step where there is one. Returns what was the same, in words, for rank 0 to tell. The run folder
/// stays as it is. Every rank of `world` calls it. Throws AgreedError telling what differs, which with the same
/// program, machine and layout is a fault of hardware or of the program; and when the step cannot be run again.
std::string replay_step(const TrainConfig& config, const std::string& run_dir, int64_t step, ProcessGroup& world,
                        Stream& s);

}  // namespace sluice
