#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "parallel/agree.h"
#include "parallel/stage_hooks.h"

namespace sluice {

/// Has all ranks stop at the same place when one of them is asked to. What they tell each other at one stage of the
/// model is known at the next, so that none waits for the others in between. Every rank makes the same calls.
class StopAgreement : public StageHooks {
 public:
  /// `asked` is what this rank knows. The group must outlive the agreement.
  StopAgreement(ProcessGroup& group, std::function<bool()> asked) : group_(group), asked_(std::move(asked)) {}

  /// Before the first step.
  void begin_pacing();
  /// After the first step: from now on the ranks talk at some stages only, every twentieth of a second or so, and at
  /// least once a step.
  void pace();
  /// The longest that it took so far from one of those stages to the next.
  double longest_s() const { return longest_s_; }

  /// Throw AgreedError of Fault::kPreempted on every rank, once one was asked to stop at the last of these calls.
  void before_forward(int) override { next_stage(); }
  void before_backward(int) override { next_stage(); }
  void after_backward(int) override {}
  /// Waits for what the ranks are telling each other, before all end for another reason.
  void settle() { told_.wait(); }
  /// Whether a rank is asked to stop by now: waits for all ranks.
  bool asked();

 private:
  void next_stage();
  void tell();
  void look();

  ProcessGroup& group_;
  const std::function<bool()> asked_;
  int64_t stages_ = 0, interval_ = 1;
  bool pacing_ = false;
  std::chrono::steady_clock::time_point began_{};  // the first step
  std::vector<double> first_step_s_;               // when its stages began
  std::chrono::steady_clock::time_point last_{};   // when the ranks talked
  double longest_s_ = 0;
  int64_t stop_ = 0;  // of any rank, once told_ is over
  Event told_;
};

}  // namespace sluice
