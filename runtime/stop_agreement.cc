#include "runtime/stop_agreement.h"

#include <algorithm>

namespace sluice {

void StopAgreement::next_stage() {
  if (++stages_ % interval_ != 0) return;
  look();
  tell();
}

bool StopAgreement::asked() {
  tell();
  told_.wait();
  return stop_ > 0;
}

void StopAgreement::pace(double step_ms) {
  constexpr double kInterval_ms = 50;
  const double stages = static_cast<double>(stages_);
  int64_t interval = static_cast<int64_t>(std::clamp(stages * kInterval_ms / std::max(step_ms, 1e-3), 1.0, stages));
  // The times of the ranks differ a little.
  group_.broadcast({&interval, DType::kI64, Device::kCpu, {1}}, 0).wait();
  interval_ = interval;
  interval_s_ = 1e-3 * step_ms * static_cast<double>(interval) / stages;
}

void StopAgreement::tell() {
  told_.wait();
  stop_ = stop_ > 0 || asked_() ? 1 : 0;
  // Of this order, it goes on while the ranks compute.
  told_ = group_.all_reduce({&stop_, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax, SumOrder::kNative);
}

void StopAgreement::look() {
  told_.wait();
  if (stop_ > 0) throw AgreedError("", Fault::kPreempted);
}

}  // namespace sluice
