#pragma once

#include <string>

#include "runtime/step.h"

namespace sluice {

/// Watches the updates of a run that are skipped because the gradient has no finite norm: one may be a bad batch, ten
/// in a row are a model that is lost.
class SkipGuard {
 public:
  static constexpr int64_t kMostInARow = 10;

  /// `speaks` on one rank, which warns of each skip and notes it in RUN/audit.jsonl.
  SkipGuard(std::string run_dir, bool speaks) : run_dir_(std::move(run_dir)), speaks_(speaks) {}

  /// After each step, with its result. Throws Error when audit.jsonl cannot be written.
  void see(int64_t step, const StepResult& result);
  /// Throws AgreedError of Fault::kDiverged on every rank after kMostInARow skips in a row.
  void check() const;

 private:
  const std::string run_dir_;
  const bool speaks_;
  int64_t step_ = 0, in_a_row_ = 0;
};

}  // namespace sluice
