#include "runtime/skip_guard.h"

#include <glog/logging.h>

#include "parallel/agree.h"
#include "runtime/metrics/audit_log.h"

namespace sluice {

namespace {

/// Of an update that was skipped.
std::string reason_of(const StepResult& result, const std::vector<SignalSpike>& spikes) {
  std::string reason;
  for (const SignalSpike& spike : spikes) {
    if (spike.skips()) reason += (reason.empty() ? "" : "; ") + spike.in_words();
  }
  INVARIANT(!reason.empty(), "an update was skipped without a reason: lm_loss ", result.losses.lm_loss, ", grad_norm ",
            result.grad_norm);
  return reason;
}

}  // namespace

void SkipGuard::see(int64_t step, const StepResult& result, const std::vector<SignalSpike>& spikes) {
  step_ = step;
  in_a_row_ = result.skipped ? in_a_row_ + 1 : 0;
  if (result.skipped) reason_ = reason_of(result, spikes);
  if (!speaks_) return;
  if (result.skipped) {
    LOG(WARNING) << "step " << step << ": " << reason_ << "; the update is skipped, " << in_a_row_ << " in a row";
    append_audit(run_dir_, step, "skip", reason_);
  }
  for (const SignalSpike& spike : spikes) {
    if (spike.first && !(spike.skips() && result.skipped)) LOG(WARNING) << "step " << step << ": " << spike.in_words();
  }
}

void SkipGuard::check(const std::string& other_reason) const {
  if (in_a_row_ < most_in_a_row_ && other_reason.empty()) return;
  const std::string skips =
      concat(in_a_row_, " updates in a row were skipped, the last in step ", step_, ": ", reason_);
  const std::string message = concat("the run has diverged: ", other_reason.empty() ? skips : other_reason,
                                     "; try a smaller optimizer.lr or more optimizer.warmup_steps");
  if (speaks_) append_audit(run_dir_, step_, "diverged", message);
  throw AgreedError(speaks_ ? message : "", Fault::kDiverged);
}

}  // namespace sluice
