#include "runtime/rewinder.h"

#include <filesystem>
#include <functional>

#include <gmock/gmock.h>

#include "parallel/agree.h"
#include "runtime/initial_weights.h"
#include "runtime/step_folders.h"
#include "tests/runtime/save_now.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

const std::string kNoTokenizer;

TrainConfig rewinding(std::vector<std::string> overrides = {}, int ranks = 2) {
  for (const char* set :
       {"stability.lm_loss.action=REWIND", "stability.rewind.steps_back=2", "stability.rewind.snapshot_every=2",
        "stability.rewind.snapshots=2", "training.micro_batch_size=2", "model.vocab_size=36", "model.moe.num_experts=4",
        "model.moe.moe_intermediate_size=8"}) {
    overrides.insert(overrides.begin(), set);
  }
  return tiny_config(overrides, ranks);
}

std::vector<SignalSpike> spike(SignalPolicy::Action action = SignalPolicy::REWIND) {
  SignalSpike spike;
  spike.signal = "lm_loss", spike.value = 9.5, spike.limit = 3.25, spike.action = action;
  spike.reading.trend = 2.5, spike.reading.noise = 0.125, spike.reading.score = 56, spike.reading.limit = 3.25;
  return {spike};
}

/// A rank that trains, and keeps copies as a run does.
struct RewindingRun {
  RewindingRun(const TrainConfig& config_of_run, const std::string& folder, ProcessGroup& world)
      : config(config_of_run), run_dir(folder), run(config, world) {
    rewinder.keep(run.stream(), {0});
  }

  void train(int64_t from, int64_t to) {
    for (int64_t step = from; step <= to; ++step) {
      run.run(step);
      if (rewinder.due(step)) rewinder.keep(run.stream(), {step});
    }
  }
  void save(int64_t step) {
    run.step().wait_for_weights();
    save_now({run_dir, config, run.model(), run.step().optimizer(), run.mesh(), kNoTokenizer}, run.stream(), step);
  }
  SavedPosition go_back(int64_t step) { return rewinder.go_back(run.stream(), {step}, spike()); }
  /// All that it knows, after its weights have arrived.
  std::vector<double> state() {
    run.step().wait_for_weights();
    std::vector<double> state = run.weights(), moments = run.moments();
    state.insert(state.end(), moments.begin(), moments.end());
    return state;
  }

  const TrainConfig config;
  const std::string run_dir;
  TinyRun run;
  Rewinder rewinder{{run_dir, {config, kNoTokenizer, best_isa()}, run.mesh(), run.model(), run.step()}};
};

class RewoundLayout : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(RewoundLayout, ThreadGroupRanksGoOnAsIfTheDroppedSamplesHadNotBeen) {
  const TempFolder folder;
  const int ranks = testing::Matches(testing::Contains("mesh.tp=2"))(GetParam()) ? 4 : 2;
  const TrainConfig config = rewinding(GetParam(), ranks);
  run_ranks(ranks, [&](ProcessGroup& world) {
    RewindingRun rewound(config, folder / "run", world), straight(config, folder / "run", world);
    // From the batch of step 5, whose update is made here and then taken back with that of steps 3 and 4.
    rewound.train(1, 5);
    const SavedPosition target = rewound.go_back(5);
    EXPECT_EQ(target.step, 2);
    EXPECT_EQ(target.dropped_samples, 3 * config.training().global_batch_size());
    straight.train(1, 2);
    EXPECT_EQ(rewound.state(), straight.state());
    straight.run.skip_steps(3);
    rewound.train(3, 5);
    straight.train(3, 5);
    EXPECT_EQ(rewound.state(), straight.state());
  });
}

INSTANTIATE_TEST_SUITE_P(Rewinder, RewoundLayout,
                         testing::Values(std::vector<std::string>{"optimizer.zero_stage=0"},
                                         std::vector<std::string>{"optimizer.zero_stage=1"},
                                         std::vector<std::string>{"optimizer.zero_stage=2", "mesh.ep=2"},
                                         std::vector<std::string>{"mesh.tp=2", "mesh.ep=2"}));

TEST(Rewinder, ThreadGroupGoesToACheckpointWhereMemoryDoesNotReach) {
  const TempFolder folder;
  const TrainConfig config = rewinding({"stability.rewind.steps_back=5"});
  run_ranks(2, [&](ProcessGroup& world) {
    RewindingRun rewound(config, folder / "run", world), straight(config, folder / "run", world);
    rewound.train(1, 3);
    rewound.save(3);
    rewound.train(4, 8);
    const SavedPosition target = rewound.go_back(8);
    EXPECT_EQ(target.step, 3) << "steps 6 and 8 are in memory";
    straight.train(1, 3);
    EXPECT_EQ(rewound.state(), straight.state());
    // It is in memory now.
    EXPECT_EQ(rewound.go_back(4).step, 3);
    EXPECT_EQ(rewound.state(), straight.state());
  });
  EXPECT_THAT(folder.read("run/audit.jsonl"), HasSubstr("the run goes back to step 3 from " + (folder / "run/ch")));
}

TEST(Rewinder, ThreadGroupGoesToTheOldestInMemoryWhereNothingIsFarEnoughBack) {
  const TempFolder folder;
  const TrainConfig config = rewinding({"stability.rewind.steps_back=8"});
  std::filesystem::create_directories(folder / "run");
  run_ranks(2, [&](ProcessGroup& world) {
    RewindingRun rewound(config, folder / "run", world);
    rewound.train(1, 7);
    EXPECT_EQ(rewound.go_back(7).step, 4);
  });
}

TEST(Rewinder, ThreadGroupPassesOverADamagedCheckpointAndNotesIt) {
  const TempFolder folder;
  const TrainConfig config = rewinding({"stability.rewind.steps_back=5"});
  run_ranks(2, [&](ProcessGroup& world) {
    RewindingRun rewound(config, folder / "run", world);
    for (int64_t step : {2, 3}) {
      rewound.train(step == 2 ? 1 : 3, step);
      rewound.save(step);
    }
    world.barrier();
    if (world.rank() == 0) {
      std::filesystem::resize_file(step_folder(folder / "run", 3) + "/shard-00001-of-00002.safetensors", 100);
    }
    world.barrier();
    rewound.train(4, 8);
    EXPECT_EQ(rewound.go_back(8).step, 2);
  });
  EXPECT_THAT(folder.read("run/audit.jsonl"), HasSubstr(R"({"step":3,"event":"checkpoint_damaged",)"));
}

TEST(Rewinder, TellsWhatItHasDone) {
  const TempFolder folder;
  run_ranks(1, [&](ProcessGroup& world) {
    RewindingRun run(rewinding({"stability.rewind.lr_factor=0.5", "stability.rewind.lr_steps=3"}, 1), folder / "",
                     world);
    run.train(1, 5);
    EXPECT_EQ(run.rewinder.lr_factor(3), 1);
    const SavedPosition target = run.rewinder.go_back(run.run.stream(), {5, 8}, spike());
    EXPECT_EQ(target.dropped_samples, 20) << "8 before, and three steps of 4";
    EXPECT_EQ(run.rewinder.lr_factor(3), 0.5);
    EXPECT_EQ(run.rewinder.lr_factor(6), 1);
  });
  EXPECT_EQ(folder.read("audit.jsonl"),
            "{\"step\":5,\"event\":\"rewind\",\"reason\":\"lm_loss 9.5 is 56 deviations above its trend; 6 or 3.25 are "
            "the limit; the run goes back to step 2 from memory, samples 8 to 27 are dropped, the learning rate is "
            "multiplied by 0.5 up to step 5\"}\n");
}

TEST(Rewinder, ThreadGroupWhereOneSkipFollowsTheOtherWeightsAreTakenForDamaged) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "run");
  run_ranks(2, [&](ProcessGroup& world) {
    const std::vector<SignalSpike> skipped = spike(SignalPolicy::SKIP);
    RewindingRun run(rewinding(), folder / "run", world);
    EXPECT_FALSE(run.rewinder.wanted(skipped, 2));
    EXPECT_TRUE(run.rewinder.wanted(skipped, 3));
    RewindingRun never(rewinding({"stability.rewind.after_skips=0"}), folder / "run", world);
    EXPECT_FALSE(never.rewinder.wanted(skipped, 9));
    run.train(1, 5);
    EXPECT_EQ(run.rewinder.go_back(run.run.stream(), {5}, skipped, 2).step, 2) << "two steps before step 4";
  });
  EXPECT_THAT(folder.read("run/audit.jsonl"),
              HasSubstr(R"("reason":"one update after the other is skipped: lm_loss 9.5 is 56 deviations above its)"));
}

TEST(Rewinder, ThreadGroupABudgetThatIsUsedUpEndsTheRunOnEveryRank) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "run");
  const TrainConfig config = rewinding({"stability.rewind.most_rewinds=1"});
  run_ranks(2, [&](ProcessGroup& world) {
    RewindingRun run(config, folder / "run", world);
    run.train(1, 5);
    run.go_back(5);
    run.train(3, 5);
    try {
      run.go_back(5);
      ADD_FAILURE() << "the run goes on";
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.fault(), Fault::kDiverged);
      EXPECT_EQ(std::string(error.what()).empty(), world.rank() != 0);
      if (world.rank() == 0) {
        EXPECT_THAT(error.what(),
                    HasSubstr("the run has diverged: it has gone back 1 times, and in step 5 lm_loss 9.5"));
      }
    }
  });
  EXPECT_THAT(folder.read("run/audit.jsonl"), HasSubstr(R"({"step":5,"event":"diverged","reason":"the run has div)"));
}

TEST(Rewinder, KeepsNothingWhereNoPolicyAsksForIt) {
  const TempFolder folder;
  run_ranks(1, [&](ProcessGroup& world) {
    RewindingRun run(tiny_config({"stability.rewind.snapshot_every=1"}), folder / "", world);
    EXPECT_FALSE(run.rewinder.due(1));
    EXPECT_FALSE(run.rewinder.wanted(spike(SignalPolicy::SKIP), 9));
    EXPECT_TRUE(run.rewinder.wanted(spike(), 0));
  });
}

}  // namespace
}  // namespace sluice
