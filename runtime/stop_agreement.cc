#include "runtime/stop_agreement.h"

#include <algorithm>

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

void StopAgreement::begin_pacing() {
  pacing_ = true;
  began_ = Clock::now();
}

void StopAgreement::next_stage() {
  if (pacing_) first_step_s_.push_back(seconds(began_, Clock::now()));
  if (++stages_ % interval_ != 0) return;
  const Clock::time_point now = Clock::now();
  if (longest_s_ > 0) longest_s_ = std::max(longest_s_, seconds(last_, now));
  last_ = now;
  look();
  tell();
}

bool StopAgreement::asked() {
  tell();
  told_.wait();
  return stop_ > 0;
}

void StopAgreement::pace() {
  constexpr double kInterval_s = 0.05;
  const Clock::time_point now = Clock::now();
  const double step_s = std::max(seconds(began_, now), 1e-6);
  const size_t stages = first_step_s_.size();
  int64_t interval = static_cast<int64_t>(static_cast<double>(stages) * std::min(kInterval_s / step_s, 1.0));
  interval = std::max(interval, int64_t{1});
  // The times of the ranks differ a little.
  group_.broadcast({&interval, DType::kI64, Device::kCpu, {1}}, 0).wait();
  interval_ = interval;
  // As if the next step were the same.
  for (size_t from = 0; from < stages; ++from) {
    const size_t to = from + static_cast<size_t>(interval);
    const double reached_s = to < stages ? first_step_s_[to] : step_s + first_step_s_[to - stages];
    longest_s_ = std::max(longest_s_, reached_s - first_step_s_[from]);
  }
  pacing_ = false;
  last_ = now;
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
