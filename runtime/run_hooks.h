#pragma once

#include <cstdint>
#include <string>

#include "parallel/stage_hooks.h"
#include "runtime/data/batch.h"
#include "runtime/metrics/step_metrics.h"
#include "runtime/step.h"

namespace sluice {

/// Who takes part in a run: those who may stop it, and tests that disturb it to see what it does about that.
class RunHooks : public StageHooks {
 public:
  /// Whether the run is to save what it has done and end; asked often, of each rank.
  virtual bool stop_asked() { return false; }
  /// Before a step is computed; what is changed is the run's from then on.
  virtual void before_step(int64_t /*step*/, ModelState& /*model*/, TrainStep& /*train_step*/) {}
  /// What a micro-step computes, in place of its own batch; valid as long as that.
  virtual const Batch& batch(int64_t /*step*/, const Batch& own) { return own; }
  virtual double learning_rate(int64_t /*step*/, double lr) { return lr; }
  /// After a step, with what it measured: why the run has diverged, the same on every rank. Empty: it goes on.
  virtual std::string why_diverged(const StepMetrics& /*metrics*/) { return ""; }
  void before_forward(int /*stage*/) override {}
  void before_backward(int /*stage*/) override {}
  void after_backward(int /*stage*/) override {}
};

}  // namespace sluice
