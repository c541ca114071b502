#include "runtime/run_folder.h"

#include <filesystem>
#include <optional>

#include <gmock/gmock.h>

#include "parallel/agree.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

TEST(RunFolder, OneJobAtATimeTrainsInIt) {
  const TempFolder folder;
  std::optional<RunLock> first(folder / "");
  EXPECT_TRUE(first->take(0));
  RunLock second(folder / "");
  EXPECT_FALSE(second.take(0));
  EXPECT_FALSE(second.take(0.05));
  first.reset();
  EXPECT_TRUE(second.take(0));
}

TEST(RunFolder, ThreadGroupASessionWaitsForTheEndOfTheOneBefore) {
  const TempFolder folder;
  std::optional<RunLock> before(folder / "");
  EXPECT_TRUE(before->take(0));
  run_ranks(2, [&](ProcessGroup& world) {
    std::optional<RunLock> lock;
    if (world.rank() == 0) lock.emplace(folder / "");
    RunLock* own = lock ? &*lock : nullptr;
    // A signal ends the wait.
    const auto stop = [] { throw AgreedError("", Fault::kPreempted); };
    EXPECT_THROW(wait_for_lock(own, folder / "", world, stop), AgreedError);
    EXPECT_FALSE(lock && lock->held());
    int asked = 0;
    wait_for_lock(own, folder / "", world, [&] {
      if (++asked == 2 && world.rank() == 0) before.reset();
    });
    EXPECT_EQ(asked, 2);
    EXPECT_EQ(lock && lock->held(), world.rank() == 0);
  });
}

TEST(RunFolder, MetricsThatWereSetAsideStay) {
  const TempFolder folder;
  create_run_folder(folder / "run");
  for (const char* metrics : {"first", "second"}) {
    folder.write("run/metrics.jsonl", metrics);
    set_metrics_aside(folder / "run");
  }
  EXPECT_EQ(folder.read("run/metrics.jsonl.replaced"), "first");
  EXPECT_EQ(folder.read("run/metrics.jsonl.replaced_2"), "second");
}

TEST(RunFolder, ARunWithoutACheckpointStartsOverUnlessItIsAnother) {
  const TempFolder folder;
  const std::string run = folder / "run";
  create_run_folder(run);
  keep_config(run, tiny_config());
  EXPECT_FALSE(restart_reason(run, tiny_config({"training.seed=2"}))) << "nothing was logged yet";
  folder.write("run/metrics.jsonl", "");
  EXPECT_EQ(restart_reason(run, tiny_config()), "the run has no checkpoint");
  EXPECT_EQ(restart_reason(run, tiny_config({"optimizer.lr=2e-2"})),
            "the run has no checkpoint; modified: optimizer.lr: 0.01 -> 0.02");
  EXPECT_THAT(error_of([&] { restart_reason(run, tiny_config({"training.seed=2"})); }),
              HasSubstr("run/config.textproto is of another run; choose another folder, or undo what was changed: "
                        "modified: training.seed: 1 -> 2"));
  std::filesystem::remove(folder / "run/config.textproto");
  EXPECT_THAT(error_of([&] { restart_reason(run, tiny_config()); }), HasSubstr("config.textproto: cannot open"));
}

}  // namespace
}  // namespace sluice
