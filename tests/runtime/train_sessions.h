#pragma once

#include <fstream>
#include <mutex>
#include <optional>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "parallel/agree.h"
#include "parallel/thread_group.h"
#include "runtime/train.h"

namespace sluice {

/// Asks rank 1 to stop once it has been asked so often whether it is to.
class StopsAfter : public RunHooks {
 public:
  StopsAfter(int64_t questions, const ProcessGroup& world) : questions_(questions), who_(world.rank() == 1) {}
  bool stop_asked() override { return who_ && --questions_ < 0; }

 private:
  int64_t questions_;
  const bool who_;
};

/// Asks to stop when a step's gradients are there: what it meets is the evaluation after that step, if that has more
/// stages than two steps.
class StopsAtTheEndOf : public RunHooks {
 public:
  StopsAtTheEndOf(int64_t step, const ProcessGroup&) : last_(step) {}
  void before_step(int64_t step, ModelState&, TrainStep&) override { step_ = step, micro_steps_ = 0; }
  void after_backward(int stage) override {
    micro_steps_ += stage == 0;
    asked_ = asked_ || (step_ == last_ && micro_steps_ == kMicroSteps);
  }
  bool stop_asked() override { return asked_; }

 private:
  static constexpr int kMicroSteps = 2;  // 8 windows, 2 at a time on each of 2 ranks
  const int64_t last_;
  int64_t step_ = 0;
  int micro_steps_ = 0;
  bool asked_ = false;
};

/// One session on two ranks, with hooks of each. Returns how it ended, if it was not at its end.
template <class HooksOf>
std::optional<Fault> session_with(const TrainConfig& config, const std::string& run_dir, const HooksOf& hooks_of) {
  std::optional<Fault> fault;
  std::mutex mutex;
  run_ranks(2, [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream stream{Device::kCpu, best_isa(), &pool};
    PhaseTimer startup;
    auto hooks = hooks_of(world);
    try {
      train(config, run_dir, world, stream, startup, &hooks);
    } catch (const AgreedError& error) {
      const std::lock_guard lock(mutex);
      EXPECT_EQ(error.fault(), fault.value_or(error.fault()));
      fault = error.fault();
    }
  });
  return fault;
}

template <class Hooks = StopsAfter>
std::optional<Fault> session(const TrainConfig& config, const std::string& run_dir, int64_t stop) {
  return session_with(config, run_dir, [&](ProcessGroup& world) { return Hooks(stop, world); });
}

/// What a run has logged, but for times.
inline std::string losses(const std::string& run_dir) {
  std::ifstream in(run_dir + "/metrics.jsonl");
  std::string all;
  for (std::string line; std::getline(in, line);) {
    nlohmann::json metrics = nlohmann::json::parse(line);
    for (const char* time : {"step_ms", "tokens_per_s", "mfu", "communication_ms"}) metrics.erase(time);
    all += metrics.dump() + "\n";
  }
  return all;
}

}  // namespace sluice
