#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/plan/dry_run.h"

namespace sluice {

/// Bytes of a rank by their use, in the order of a table: weights, master, moments, gradients, saved_activations,
/// expert_dispatch, communication, workspace, evaluation, checkpoint_copy, rewind_snapshots, other, program.
struct MemoryTable {
  std::vector<std::pair<std::string, int64_t>> uses;  ///< those that are not 0
  int64_t total = 0;
};

/// What a rank takes at its peak: the arenas that it fills in a run, the workspaces of `threads` threads, and what the
/// program itself takes. Arenas keep what they have once touched, so that their peaks add up.
MemoryTable memory_table(const std::vector<PlannedArena>& arenas, int64_t threads, bool with_mpi);

}  // namespace sluice
