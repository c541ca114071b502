#pragma once

#include <utility>
#include <vector>

namespace sluice {

/// What the model announces while it walks through its stages, so that parameters can arrive and gradients leave beside
/// the computation. Every rank announces the same stages in the same order.
class StageHooks {
 public:
  virtual ~StageHooks() = default;
  /// The weights of the stage are read from here on.
  virtual void before_forward(int stage) = 0;
  /// The gradients of the stage are added to from here on.
  virtual void before_backward(int stage) = 0;
  /// The gradients of the stage are final for this micro-step.
  virtual void after_backward(int stage) = 0;
};

/// Tells several listeners, in their order.
class StageHooksList : public StageHooks {
 public:
  explicit StageHooksList(std::vector<StageHooks*> listeners) : listeners_(std::move(listeners)) {}
  void before_forward(int stage) override {
    for (StageHooks* each : listeners_) each->before_forward(stage);
  }
  void before_backward(int stage) override {
    for (StageHooks* each : listeners_) each->before_backward(stage);
  }
  void after_backward(int stage) override {
    for (StageHooks* each : listeners_) each->after_backward(stage);
  }

 private:
  const std::vector<StageHooks*> listeners_;
};

}  // namespace sluice
