#include "runtime/skip_guard.h"

#include <glog/logging.h>

#include "parallel/agree.h"
#include "runtime/metrics/audit_log.h"

namespace sluice {

void SkipGuard::see(int64_t step, const StepResult& result) {
  step_ = step;
  in_a_row_ = result.skipped ? in_a_row_ + 1 : 0;
  if (!result.skipped || !speaks_) return;
  const std::string reason = concat("the gradient norm is ", result.grad_norm);
  LOG(WARNING) << "step " << step << ": " << reason << ", the update is skipped; " << in_a_row_ << " in a row";
  append_audit(run_dir_, step, "skip", reason);
}

void SkipGuard::check() const {
  if (in_a_row_ < kMostInARow) return;
  const std::string message =
      concat("the run has diverged: the gradient norm was not finite in ", in_a_row_, " steps in a row, the last is ",
             step_, "; try a smaller optimizer.lr or more optimizer.warmup_steps");
  throw AgreedError(speaks_ ? message : "", Fault::kDiverged);
}

}  // namespace sluice
