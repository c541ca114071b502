#include "runtime/resume.h"

#include <cstring>
#include <filesystem>
#include <mutex>

#include <gmock/gmock.h>

#include "parallel/agree.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/initial_weights.h"
#include "runtime/run_folder.h"
#include "runtime/step_folders.h"
#include "tests/runtime/save_now.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

/// What a rank has learnt.
struct State {
  std::vector<double> weights, m, v;
  bool operator==(const State&) const = default;
};

State state_of(TinyRun& run) {
  run.step().wait_for_weights();
  State state{run.weights(), {}, {}};
  const auto add = [&](Tensor part, std::vector<double>& to) {
    const size_t before = to.size();
    to.resize(before + static_cast<size_t>(part.count()));
    cast(run.stream(), part, {to.data() + before, DType::kF64, Device::kCpu, part.shape});
  };
  for (const ParameterRecord& r : run.model().records) {
    const Optimizer::Moments moments = run.step().optimizer().moments(r);
    add(moments.m, state.m);
    add(moments.v, state.v);
  }
  return state;
}

const std::string kNoTokenizer;

void save(TinyRun& run, const TrainConfig& config, const std::string& run_dir, int64_t step) {
  run.step().wait_for_weights();
  save_now({run_dir, config, run.model(), run.step().optimizer(), run.mesh(), kNoTokenizer}, run.stream(), step);
}

std::optional<ResumePoint> resume(TinyRun& run, const TrainConfig& config, const std::string& run_dir) {
  return resume(run_dir, {config, kNoTokenizer, best_isa()}, run.mesh(), run.model(), run.step().optimizer());
}

CheckpointConfig keep(int64_t newest) {
  CheckpointConfig config;
  config.set_keep(newest);
  return config;
}

/// What all ranks agree to fail for, which one of them tells.
std::string agreed_error(int ranks, const std::function<void(ProcessGroup&)>& body) {
  std::string message;
  std::mutex mutex;
  run_ranks(ranks, [&](ProcessGroup& world) {
    try {
      body(world);
      ADD_FAILURE() << "no Error was thrown";
    } catch (const AgreedError& error) {
      EXPECT_TRUE(is_from_outside(error.fault()));
      const std::lock_guard lock(mutex);
      EXPECT_TRUE(message.empty() || !*error.what()) << message << error.what();
      message += error.what();
    }
  });
  return message;
}

TrainConfig two_ranks(const std::vector<std::string>& more = {}) {
  std::vector<std::string> overrides = {"training.micro_batch_size=2"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return tiny_config(overrides, 2);
}

/// A run on two ranks with checkpoints of steps 1 and 2.
void make_run(const std::string& run_dir, const TrainConfig& config = two_ranks()) {
  run_ranks(2, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    for (int64_t step : {1, 2}) {
      run.run(step);
      save(run, config, run_dir, step);
    }
  });
}

/// The step that the run goes on from; -1: none.
int64_t resumed_step(const std::string& run_dir, const TrainConfig& config = two_ranks()) {
  int64_t step = -1;
  run_ranks(2, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    const auto point = resume(run, config, run_dir);
    if (point && world.rank() == 0) step = point->position.step;
  });
  return step;
}

class ResumedLayout : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(ResumedLayout, ThreadGroupRanksEndAsWithoutAnInterruptionToTheLastBit) {
  constexpr int64_t kInterruption = 3, kSteps = 6;
  const TempFolder folder;
  // Whatever the layout, mesh.dp is what is left of the ranks.
  const int ranks = testing::Matches(testing::Contains("mesh.tp=2"))(GetParam()) ? 4 : 2;
  const TrainConfig config = tiny_config(GetParam(), ranks);
  run_ranks(ranks, [&](ProcessGroup& world) {
    TinyRun straight(config, world), resumed(config, world);
    for (int64_t step = 1; step <= kInterruption; ++step) straight.run(step);
    save(straight, config, folder / "run", kInterruption);
    const auto point = resume(resumed, config, folder / "run");
    EXPECT_EQ(point->position.step, kInterruption);
    EXPECT_EQ(point->changes, "");
    EXPECT_EQ(state_of(resumed), state_of(straight)) << "loaded";
    resumed.skip_steps(kInterruption);
    for (int64_t step = kInterruption + 1; step <= kSteps; ++step) {
      const double loss = straight.run(step).losses.loss;
      EXPECT_EQ(resumed.run(step).losses.loss, loss) << "step " << step;
    }
    EXPECT_EQ(state_of(resumed), state_of(straight)) << "at the end";
  });
}

using Overrides = std::vector<std::string>;

/// On two ranks, and on four of all kinds.
Overrides data_parallel(const std::string& more) { return {"training.micro_batch_size=2", more}; }
Overrides all_axes(const std::string& more) {
  return {"mesh.tp=2",
          "mesh.ep=2",
          "model.moe.num_experts=6",
          "model.moe.moe_intermediate_size=8",
          "model.vocab_size=36",
          "training.micro_batch_size=2",
          more};
}

INSTANTIATE_TEST_SUITE_P(Layouts, ResumedLayout,
                         testing::Values(data_parallel("optimizer.zero_stage=0"),
                                         data_parallel("optimizer.zero_stage=1"),
                                         data_parallel("optimizer.zero_stage=2"), data_parallel("precision=F32"),
                                         data_parallel("model.moe.selection_bias_rate=0.01"),
                                         all_axes("optimizer.zero_stage=0"), all_axes("optimizer.zero_stage=1"),
                                         all_axes("mesh.etp=2"), all_axes("precision=F32")));

TEST(Resume, AFolderWithoutACheckpointIsLeftToANewRun) {
  const TempFolder folder;
  EXPECT_EQ(resumed_step(folder / "run"), -1);
  std::filesystem::create_directories(folder / "run/checkpoints/step_00000001");
  std::filesystem::create_directories(folder / "run/checkpoints/damaged_step_00000002");
  EXPECT_EQ(resumed_step(folder / "run"), -1);
}

TEST(Resume, ADamagedCheckpointIsSetAsideAndTheOneBeforeIsTaken) {
  const std::string shard = "run/checkpoints/step_00000002/shard-00001-of-00002.safetensors",
                    manifest = "run/checkpoints/step_00000002/manifest.textproto";
  const std::pair<std::function<void(const TempFolder&)>, const char*> cases[] = {
      // The end of a moment that the second rank alone reads.
      {[&](const TempFolder& folder) {
         std::string bytes = folder.read(shard);
         bytes.back() ^= 1;
         folder.write(shard, bytes);
       },
       "does not match its checksum"},
      {[&](const TempFolder& folder) { std::filesystem::remove(folder / shard); }, "is missing"},
      {[&](const TempFolder& folder) { folder.write(manifest, folder.read(manifest).substr(0, 1000)); },
       "manifest_xxh3 is missing"}};
  for (const auto& [damage, reason] : cases) {
    const TempFolder folder;
    make_run(folder / "run");
    damage(folder);
    EXPECT_EQ(resumed_step(folder / "run"), 1) << reason;
    EXPECT_FALSE(folder.has("run/checkpoints/step_00000002"));
    EXPECT_TRUE(folder.has("run/checkpoints/damaged_step_00000002")) << reason;
    const std::string audit = folder.read("run/audit.jsonl");
    EXPECT_THAT(audit, testing::StartsWith(R"({"step":2,"event":"checkpoint_damaged","reason":")"));
    EXPECT_THAT(audit, HasSubstr(reason));
    EXPECT_EQ(std::count(audit.begin(), audit.end(), '\n'), 1);
  }
}

TEST(Resume, WhenNoCheckpointIsGoodAllAreKept) {
  const TempFolder folder;
  make_run(folder / "run");
  for (const char* step : {"1", "2"}) {
    std::filesystem::remove(folder / concat("run/checkpoints/step_0000000", step, "/shard-00000-of-00002.safetensors"));
  }
  const TrainConfig config = two_ranks();
  const std::string error = agreed_error(2, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    resume(run, config, folder / "run");
  });
  EXPECT_THAT(error, HasSubstr("run/checkpoints: none is good"));
  EXPECT_THAT(error, HasSubstr("step_00000002/shard-00000-of-00002.safetensors: is missing"));
  EXPECT_TRUE(folder.has("run/checkpoints/step_00000001"));
  EXPECT_TRUE(folder.has("run/checkpoints/step_00000002"));
  EXPECT_FALSE(folder.has("run/audit.jsonl"));
}

TEST(Resume, AnotherRunIsRefusedWithTheDifferences) {
  const TempFolder folder;
  make_run(folder / "run");
  const std::pair<const char*, const char*> cases[] = {
      {"model.rope_theta=20000", "modified: model.rope_theta: 10000 -> 20000"},
      {"model.hidden_size=20", "modified: model.hidden_size: 16 -> 20"},
      {"model.gates=", "deleted: model.gates[0]"},
      {"training.seed=2", "modified: training.seed: 1 -> 2"},
      {"training.sequence_length=14", "modified: training.sequence_length: 12 -> 14"},
      {"training.global_batch_size=8", "modified: training.global_batch_size: 4 -> 8"},
      {"data.train[0].weight=2", "modified: data.train[0].weight: 1 -> 2"},
      {"precision=F32", "modified: precision: F64 -> F32"},
      {"training.micro_batch_size=1", "training.micro_batch_size=1 times mesh.dp=2 is 2, but"}};
  for (const auto& [change, difference] : cases) {
    const TrainConfig config = two_ranks({change});
    const std::string error = agreed_error(2, [&](ProcessGroup& world) {
      TinyRun run(config, world);
      resume(run, config, folder / "run");
    });
    EXPECT_THAT(error, HasSubstr(difference));
    EXPECT_THAT(error, HasSubstr("run/checkpoints/step_00000002"));
  }
  EXPECT_EQ(resumed_step(folder / "run"), 2) << "nothing was set aside";
}

TEST(Resume, AnotherTokenizerIsRefused) {
  const TempFolder folder;
  make_run(folder / "run");
  const TrainConfig config = two_ranks({"data.tokenizer=new.json"});
  const std::string tokenizer = "a tokenizer";
  EXPECT_THAT(
      agreed_error(
          2,
          [&](ProcessGroup& world) {
            TinyRun run(config, world);
            resume(folder / "run", {config, tokenizer, best_isa()}, run.mesh(), run.model(), run.step().optimizer());
          }),
      HasSubstr("data.tokenizer=new.json is not the tokenizer that "));
}

TEST(Resume, DataMayMoveButNotChange) {
  DataState data;
  data.add_sets()->set_tokens(1000);
  const TempFolder folder;
  const TrainConfig config = two_ranks(), moved = two_ranks({"data.train[0].prefix=moved"});
  run_ranks(2, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    save_now({folder / "run", config, run.model(), run.step().optimizer(), run.mesh(), kNoTokenizer, data},
             run.stream(), 2);
    const auto point = resume(folder / "run", {moved, kNoTokenizer, best_isa(), data}, run.mesh(), run.model(),
                              run.step().optimizer());
    EXPECT_EQ(point->changes, R"(modified: data.train[0].prefix: "unused" -> "moved")");
  });
  data.mutable_sets(0)->set_documents(7);
  EXPECT_THAT(agreed_error(2,
                           [&](ProcessGroup& world) {
                             TinyRun run(moved, world);
                             resume(folder / "run", {moved, kNoTokenizer, best_isa(), data}, run.mesh(), run.model(),
                                    run.step().optimizer());
                           }),
              HasSubstr("data.train[0].prefix=moved holds 7 documents of 1000 tokens"));
}

TEST(Resume, ChangesOfTheScheduleAreAllowedAndTold) {
  const TempFolder folder;
  make_run(folder / "run");
  const TrainConfig config = two_ranks({"optimizer.lr=2e-2", "training.steps=20", "checkpoint.every=5"});
  run_ranks(2, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    const auto point = resume(run, config, folder / "run");
    EXPECT_EQ(point->position.step, 2);
    for (const char* change : {"modified: optimizer.lr: 0.01 -> 0.02", "modified: training.steps: 10 -> 20",
                               "modified: checkpoint.every: 0 -> 5"}) {
      EXPECT_THAT(point->changes, HasSubstr(change));
    }
  });
}

TEST(Resume, ARunThatStartedWithMomentsGoesOnAsIfItWereOne) {
  const TempFolder folder;
  const TrainConfig config = two_ranks();
  TrainConfig from_moments = config;
  from_moments.mutable_initial_checkpoint()->set_path(step_folder(folder / "first", 2));
  from_moments.mutable_initial_checkpoint()->set_load(InitialCheckpoint::ALL);
  run_ranks(2, [&](ProcessGroup& world) {
    TinyRun first(config, world);
    for (int64_t step : {1, 2}) first.run(step);
    save(first, config, folder / "first", 2);

    TinyRun second(from_moments, world);
    load_initial_weights(from_moments.initial_checkpoint(), config.model(), second.model());
    load_initial_moments(from_moments.initial_checkpoint(), second.model(), second.step().optimizer());
    // The same data, for the comparison.
    second.skip_steps(2);
    first.run(3);
    second.run(1);
    EXPECT_EQ(state_of(second), state_of(first));
    save(second, from_moments, folder / "second", 1);

    TinyRun third(from_moments, world);
    EXPECT_EQ(resume(third, from_moments, folder / "second")->position.step, 1);
    third.skip_steps(3);
    first.run(4);
    third.run(2);
    EXPECT_EQ(state_of(third), state_of(first));
  });
}

TEST(Resume, WhatCannotBeLookedAtIsNotTakenForGone) {
  const TempFolder folder;
  make_run(folder / "run");
  const std::string manifest = folder / "run/checkpoints/step_00000002/manifest.textproto";
  std::filesystem::remove(manifest);
  std::filesystem::create_symlink(manifest, manifest);  // a loop
  EXPECT_THAT(error_of([&] { checkpoint_steps(folder / "run"); }), HasSubstr("cannot be looked at"));
  EXPECT_THROW(resumed_step(folder / "run"), Error);
  remove_old_checkpoints(folder / "run", keep(1), 100);
  for (const char* step : {"run/checkpoints/step_00000001", "run/checkpoints/step_00000002"}) {
    EXPECT_TRUE(folder.has(step)) << step;
  }
}

TEST(Resume, ASignalToOneRankEndsTheReadingOnAll) {
  const TempFolder folder;
  make_run(folder / "run");
  // An earlier one would not be tried, and this one stays where it is.
  run_ranks(2, [&](ProcessGroup& world) {
    const TrainConfig config = two_ranks();
    TinyRun run(config, world);
    int read = 0;
    try {
      resume(folder / "run", {config, kNoTokenizer, best_isa()}, run.mesh(), run.model(), run.step().optimizer(), [&] {
        if (++read == 3 && world.rank() == 1) throw AgreedError("", Fault::kPreempted);
      });
      ADD_FAILURE() << "it goes on";
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.fault(), Fault::kPreempted);
    }
    EXPECT_EQ(read, world.rank() == 1 ? 3 : static_cast<int>(run.model().records.size()));
  });
  EXPECT_THAT(checkpoint_steps(folder / "run"), testing::ElementsAre(1, 2));
}

TEST(Resume, NothingThatWasSetAsideIsReplaced) {
  const TempFolder folder;
  make_run(folder / "run");
  std::filesystem::create_directories(folder / "run/checkpoints/damaged_step_00000002");
  folder.write("run/checkpoints/damaged_step_00000002/earlier", "kept");
  std::filesystem::remove(folder / "run/checkpoints/step_00000002/shard-00000-of-00002.safetensors");
  EXPECT_EQ(resumed_step(folder / "run"), 1);
  EXPECT_EQ(folder.read("run/checkpoints/damaged_step_00000002/earlier"), "kept");
  EXPECT_TRUE(folder.has("run/checkpoints/damaged_step_00000002_2/manifest.textproto"));
}

TEST(Resume, DroppedSamplesAreRemembered) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  const TrainConfig config = two_ranks();
  run_ranks(2, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    CheckpointSaver saver({run_dir, config, run.model(), run.step().optimizer(), run.mesh(), kNoTokenizer});
    saver.begin(run.stream(), {3, 20});
    saver.finish();
    EXPECT_EQ(resume(run, config, folder / "run")->position.dropped_samples, 20);
  });
  const Manifest manifest = read_manifest(folder / "run/checkpoints/step_00000003");
  EXPECT_EQ(manifest.data_state().sample_cursor(), 3 * config.training().global_batch_size() + 20);
}

TEST(Resume, RanksThatSeeOtherCheckpointsAreTold) {
  const TempFolder folder;
  make_run(folder / "0");
  make_run(folder / "1", two_ranks({"optimizer.lr=3e-2"}));
  const std::string told = agreed_error(2, [&](ProcessGroup& world) {
    const TrainConfig config = two_ranks();
    TinyRun run(config, world);
    resume(run, config, folder / std::to_string(world.rank()));
  });
  EXPECT_THAT(told, HasSubstr("rank 1 sees another checkpoint there than rank 0"));
}

}  // namespace
}  // namespace sluice
