#pragma once

#include <string>
#include <vector>

#include "runtime/stability/monitor.h"
#include "runtime/step.h"

namespace sluice {

/// Tells of a run's spikes, and watches the updates that are skipped: one may be a bad batch, many in a row are a model
/// that is lost.
class SkipGuard {
 public:
  /// `speaks` on one rank, which warns of spikes and skips, and notes these in RUN/audit.jsonl.
  SkipGuard(std::string run_dir, int64_t most_in_a_row, bool speaks)
      : run_dir_(std::move(run_dir)), most_in_a_row_(most_in_a_row), speaks_(speaks) {}

  /// After each step, with its result and its spikes.
  void see(int64_t step, const StepResult& result, const std::vector<SignalSpike>& spikes);
  /// Throws AgreedError of Fault::kDiverged on every rank after `most_in_a_row` skips in a row, or for another reason
  /// that the same ranks have; empty: there is none.
  void check(const std::string& other_reason = "") const;

  int64_t in_a_row() const { return in_a_row_; }
  /// To go on where an earlier session was.
  void set_in_a_row(int64_t skips) { in_a_row_ = skips; }

 private:
  const std::string run_dir_;
  const int64_t most_in_a_row_;
  const bool speaks_;
  int64_t step_ = 0, in_a_row_ = 0;
  std::string reason_;  ///< of the last skip
};

}  // namespace sluice
