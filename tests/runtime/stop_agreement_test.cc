#include "runtime/stop_agreement.h"

#include <chrono>
#include <thread>

#include <gmock/gmock.h>

#include "parallel/thread_group.h"

namespace sluice {
namespace {

constexpr auto kPause = std::chrono::milliseconds(30);

/// A step of eight stages, of which the sixth is long.
void step(StopAgreement& agreement) {
  for (int stage = 0; stage < 4; ++stage) agreement.before_forward(stage);
  for (int stage = 3; stage >= 0; --stage) {
    agreement.before_backward(stage);
    if (stage == 2) std::this_thread::sleep_for(kPause);
  }
}

TEST(StopAgreement, ThreadGroupTellsTheLongestWayFromOneLookToTheNext) {
  run_ranks(2, [&](ProcessGroup& world) {
    StopAgreement agreement(world, [] { return false; });
    const auto start = std::chrono::steady_clock::now();
    agreement.begin_pacing();
    step(agreement);
    agreement.pace();
    const std::chrono::duration<double> step_s = std::chrono::steady_clock::now() - start;
    EXPECT_GE(agreement.longest_s(), 0.03);
    EXPECT_LE(agreement.longest_s(), step_s.count()) << "the ranks talk at least once a step";
    std::this_thread::sleep_for(4 * kPause);
    step(agreement);
    step(agreement);
    EXPECT_GE(agreement.longest_s(), 0.12) << "between two steps";
    agreement.settle();
  });
}

TEST(StopAgreement, ThreadGroupAllRanksLeaveAtTheSameStage) {
  std::vector<int> left(2, -1);
  run_ranks(2, [&](ProcessGroup& world) {
    bool asked = false;
    StopAgreement agreement(world, [&] { return asked; });
    int stage = 0;
    try {
      for (; stage < 100; ++stage) {
        asked = world.rank() == 1 && stage >= 40;
        agreement.before_forward(stage);
      }
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.fault(), Fault::kPreempted);
    }
    left[static_cast<size_t>(world.rank())] = stage;
  });
  EXPECT_THAT(left, testing::ElementsAre(41, 41));
}

}  // namespace
}  // namespace sluice
