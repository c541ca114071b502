#pragma once

#include <string>

#include "configs/study.pb.h"
#include "configs/train.pb.h"
#include "launch/study/cell_book.h"
#include "parallel/process_group.h"

namespace sluice {

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
