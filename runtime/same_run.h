#pragma once

#include <string>

#include "configs/train.pb.h"

namespace sluice {

/// Compares the configuration of a run with one that is to go on with it. What the trained weights, the order of the
/// data and the loss depend on must be the same: model, precision, training sets, seed, lengths and batches. Throws
/// Error with every difference that must not be; `saved` names where the run's configuration comes from. Returns the
/// other differences in words; empty: none.
std::string check_same_run(const TrainConfig& run, const TrainConfig& config, const std::string& saved);

/// Whether a run that goes on repeats the uninterrupted one to the last bit, as far as its layout decides that.
bool same_layout(const TrainConfig& run, const TrainConfig& config);

}  // namespace sluice
