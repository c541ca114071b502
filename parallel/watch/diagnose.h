#pragma once

#include <optional>
#include <string>
#include <vector>

#include "parallel/watch/rank_state.pb.h"

namespace sluice {

/// Who holds up the job, and one sentence that says where, and who waits.
struct Diagnosis {
  std::vector<int> culprits;
  std::string text;
};

/// Whether the rank gave no sign for its deadline, or is in a call for that long.
bool overdue(const RankState& state);

/// Whether the rank is in a call, or waits for the end of one.
bool in_call(const RankState& state);

/// Finds the culprits among ranks of which some are overdue. In this order: ranks that are silent (stopped, or off the
/// network); ranks whose calls differ from the others' (most ranks decide; between as many, each rank's own past
/// does); ranks that have not come to a call in which others wait.
///   states      of the ranks that are known, any order
///   world_size  whom nobody is waiting for can only be told when all are known
/// Nothing when whoever others wait for is still moving within its deadline.
std::optional<Diagnosis> diagnose(const std::vector<RankState>& states, int world_size);

/// The part of diagnose() that needs nobody to be overdue: whose calls, or counts that depend on the data, differ.
std::optional<Diagnosis> diagnose_difference(const std::vector<RankState>& states);

}  // namespace sluice
