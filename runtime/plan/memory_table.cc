#include "runtime/plan/memory_table.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "kernels/core/thread_pool.h"

namespace sluice {
namespace {

// Measured: the resident set of a rank whose model takes next to nothing.
constexpr int64_t kProgramBytes = int64_t{32} << 20, kMpiBytes = int64_t{4} << 20;

constexpr std::array kUses = {"weights",          "master",        "moments",   "gradients",  "saved_activations",
                              "expert_dispatch",  "communication", "workspace", "evaluation", "checkpoint_copy",
                              "rewind_snapshots", "other",         "program"};

template <size_t N>
bool is_one_of(std::string_view name, const std::array<const char*, N>& names) {
  return std::any_of(names.begin(), names.end(), [&](const char* each) { return name == each; });
}

bool is_dispatch(std::string_view name) {
  constexpr std::array kNames = {"dispatched_rows", "expert_results", "returned_terms",
                                 "sent_runs",       "received_runs",  "arriving_runs",
                                 "sorted_tokens",   "sorted_weights", "d_sorted_weights"};
  return is_one_of(name, kNames);
}
bool is_communication(std::string_view name) {
  constexpr std::array kNames = {"gathered_tokens", "partial_sum", "own_sum", "arriving_gradients"};
  return is_one_of(name, kNames);
}

const char* use_of(std::string_view arena, std::string_view allocation) {
  if (arena.substr(0, 12) == "evaluation: ") return "evaluation";
  if (arena == "checkpoint copy") return "checkpoint_copy";
  if (arena == "snapshots") return "rewind_snapshots";
  if (allocation == "weights") return "weights";
  if (allocation == "master_weights") return "master";
  if (allocation == "first_moments" || allocation == "second_moments") return "moments";
  if (is_dispatch(allocation)) return "expert_dispatch";
  if (is_communication(allocation)) return "communication";
  if (arena == "gradients") return "gradients";
  if (arena == "scratch") return "workspace";
  return arena == "state" || arena == "numbers" ? "other" : "saved_activations";
}

}  // namespace

Overhead cpu_overhead(int64_t threads, bool with_mpi) {
  return {threads * ThreadPool::kWorkspaceBytes, kProgramBytes + (with_mpi ? kMpiBytes : 0)};
}

MemoryTable memory_table(const std::vector<PlannedArena>& arenas, const Overhead& overhead) {
  std::array<int64_t, kUses.size()> bytes{};
  const auto add = [&](std::string_view use, int64_t more) {
    bytes[static_cast<size_t>(std::find(kUses.begin(), kUses.end(), use) - kUses.begin())] += more;
  };
  for (const PlannedArena& arena : arenas) {
    if (overhead.copies_elsewhere && (arena.name == "checkpoint copy" || arena.name == "snapshots")) continue;
    for (const Arena::Allocation& allocation : arena.peak) add(use_of(arena.name, allocation.name), allocation.bytes);
  }
  add("workspace", overhead.workspace_bytes);
  add("program", overhead.program_bytes);
  MemoryTable table;
  for (size_t use = 0; use < kUses.size(); ++use) {
    if (bytes[use] > 0) table.uses.emplace_back(kUses[use], bytes[use]);
    table.total += bytes[use];
  }
  return table;
}

}  // namespace sluice
