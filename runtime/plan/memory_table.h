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

/// What a rank takes beside its arenas.
struct Overhead {
  int64_t workspace_bytes = 0, program_bytes = 0;
  bool copies_elsewhere = false;  ///< copies for checkpoints and for going back lie in a host's memory
};
/// The workspaces of `threads` threads, and the program with or without MPI.
Overhead cpu_overhead(int64_t threads, bool with_mpi);

/// What a rank takes at its peak: the arenas that it fills in a run, and what it takes beside. Arenas keep what they
/// have once touched, so that their peaks add up.
MemoryTable memory_table(const std::vector<PlannedArena>& arenas, const Overhead& overhead);

}  // namespace sluice
