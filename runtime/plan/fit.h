#pragma once

#include <string>

#include "configs/train.pb.h"

namespace sluice {

/// Memory that the processes of this machine may take together: what it has, or less where a control group limits them.
int64_t node_memory_bytes();

/// Whether the ranks of a node fit into so many bytes. Empty: they do; else one line that tells by how much not, and
/// the first change of the configuration with which they would. The configuration is validated; `rank` is one of
/// theirs.
std::string why_it_does_not_fit(const TrainConfig& config, int rank, int ranks_on_node, int64_t memory_bytes);

}  // namespace sluice
