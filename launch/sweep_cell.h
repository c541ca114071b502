#pragma once

#include <optional>
#include <string>

#include "configs/study.pb.h"
#include "configs/train.pb.h"
#include "launch/deadline.h"
#include "launch/study/cell_book.h"
#include "parallel/process_group.h"

namespace sluice {

/// Looks after calls in which ranks wait for each other, where training does not: without it they wait for ever for one
/// that has died.
class GroupDeadline {
 public:
  GroupDeadline(const ProcessGroup& group, const char* what, double patience_s = 120) {
    if (group.size() > 1) deadline_.emplace(patience_s, what);
  }

 private:
  std::optional<Deadline> deadline_;
};

struct CellResult {
  CellState::Outcome outcome = CellState::Outcome::kNone;  ///< kNone: it has not ended, for this reason
  std::string reason{};
  bool stopped = false;  ///< by a signal; what it has done is saved
};

/// Trains a cell as `sluice train` would. What that tells goes to RUN/log. Every rank of the group calls it, and gets
/// the same result.
///   config  validated
CellResult run_cell(const TrainConfig& config, const StopRule& stop, const std::string& run_dir, ProcessGroup& group);

}  // namespace sluice
