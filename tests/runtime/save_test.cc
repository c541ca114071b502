#include "runtime/save.h"

#include <csignal>
#include <filesystem>
#include <limits>
#include <optional>
#include <sys/resource.h>
#include <thread>

#include <gmock/gmock.h>

#include "runtime/checkpoint/manifest.h"
#include "runtime/resume.h"
#include "runtime/step_folders.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kNoTokenizer;

/// A run on one of two ranks, and what saves it.
struct SavedTinyRun {
  SavedTinyRun(const std::string& run_dir, const TrainConfig& config, ProcessGroup& world)
      : run(config, world), saver({run_dir, config, run.model(), run.step().optimizer(), run.mesh(), kNoTokenizer}) {}

  void step_and_begin(int64_t step) {
    run.run(step);
    run.step().wait_for_weights();
    saver.begin(run.stream(), {step, 4 * step});
  }

  TinyRun run;
  CheckpointSaver saver;
};

TrainConfig two_ranks(const std::vector<std::string>& more = {}) {
  std::vector<std::string> overrides = {"training.micro_batch_size=2"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return tiny_config(overrides, 2);
}

TEST(CheckpointSaver, ThreadGroupRanksGoOnWhileTheirStateIsWritten) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  const TrainConfig config = two_ranks();
  run_ranks(2, [&](ProcessGroup& world) {
    SavedTinyRun saved(run_dir, config, world);
    saved.step_and_begin(1);
    const std::vector<double> weights = saved.run.weights();
    saved.run.run(2);
    saved.run.step().wait_for_weights();
    EXPECT_NE(saved.run.weights(), weights);
    saved.saver.finish();
    EXPECT_EQ(saved.saver.failure(), "");

    TinyRun loaded(config, world);
    CheckpointReader reader(step_folder(run_dir, 1));
    load_state(reader, loaded.model(), loaded.step().optimizer());
    EXPECT_EQ(loaded.weights(), weights);
  });
}

TEST(CheckpointSaver, ThreadGroupACheckpointExistsFromPollOn) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  const TrainConfig config = two_ranks();
  run_ranks(2, [&](ProcessGroup& world) {
    SavedTinyRun saved(run_dir, config, world);
    saved.step_and_begin(1);
    const std::string other = "/shard-00001-of-00002.safetensors";
    while (!std::filesystem::exists(step_folder(run_dir, 1) + other)) std::this_thread::yield();
    EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre());
    // What rank 0 sees goes for both.
    const auto exists = [&] {
      int64_t steps = static_cast<int64_t>(checkpoint_steps(run_dir).size());
      world.broadcast({&steps, DType::kI64, Device::kCpu, {1}}, 0).wait();
      return steps > 0;
    };
    while (!exists()) saved.saver.poll();
  });
  EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(1));
}

TEST(CheckpointSaver, ThreadGroupOneThatCannotBeWrittenIsToldAndTheNextIsTried) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  std::filesystem::create_directories(folder / "run/checkpoints");
  folder.write("run/checkpoints/step_00000001", "in the way");
  const TrainConfig config = two_ranks();
  run_ranks(2, [&](ProcessGroup& world) {
    SavedTinyRun saved(run_dir, config, world);
    for (int64_t step : {1, 2}) saved.step_and_begin(step);
    saved.saver.finish();
    EXPECT_THAT(saved.saver.failure(), HasSubstr("step 1: no checkpoint: "));
  });
  EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(2));
  EXPECT_THAT(folder.read("run/audit.jsonl"), testing::StartsWith(R"({"step":1,"event":"checkpoint_failed",)"));
}

TEST(CheckpointSaver, ThreadGroupWhatIsInFlightWhenARankFailsIsGivenUp) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  const TrainConfig config = two_ranks();
  run_ranks(2, [&](ProcessGroup& world) {
    {
      SavedTinyRun saved(run_dir, config, world);
      saved.step_and_begin(1);
    }
    EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre());
    world.barrier();
    SavedTinyRun next(run_dir, config, world);
    next.step_and_begin(1);
    next.saver.finish();
    EXPECT_EQ(next.saver.failure(), "");
  });
  EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(1));
}

/// No file grows beyond so many bytes while it lives.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) : before_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit small{bytes, limit_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallFiles() {
    setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, before_);
  }

 private:
  void (*before_)(int);
  rlimit limit_{};
};

TEST(CheckpointSaver, ThreadGroupNothingIsLeftOfOneThatDidNotFit) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  const TrainConfig config = two_ranks();
  run_ranks(2, [&](ProcessGroup& world) {
    SavedTinyRun saved(run_dir, config, world);
    saved.step_and_begin(1);
    saved.saver.finish();
    std::optional<SmallFiles> small;
    if (world.rank() == 0) small.emplace(1000);
    world.barrier();
    saved.step_and_begin(2);
    saved.saver.finish();
    EXPECT_THAT(saved.saver.failure(),
                AllOf(HasSubstr("step 2: no checkpoint: "), HasSubstr("cannot write: File too")));
  });
  EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(1));
  EXPECT_FALSE(folder.has("run/checkpoints/step_00000002"));
}

TEST(CheckpointSaver, ThreadGroupWhatIsNotFiniteIsNotSaved) {
  for (bool moment : {false, true}) {
    const TempFolder folder;
    const std::string run_dir = folder / "run";
    const TrainConfig config = two_ranks();
    run_ranks(2, [&](ProcessGroup& world) {
      SavedTinyRun saved(run_dir, config, world);
      saved.step_and_begin(1);
      saved.run.run(2);
      saved.run.step().wait_for_weights();
      for (const Optimizer::Own& own : saved.run.step().optimizer().own()) {
        const Tensor spoilt = moment ? own.v : own.weights;
        if (world.rank() == 0 || spoilt.count() == 0) continue;
        *spoilt.as<double>() = std::numeric_limits<double>::infinity();
        break;
      }
      saved.saver.begin(saved.run.stream(), {2});
      saved.saver.finish();
      EXPECT_THAT(saved.saver.failure(),
                  AllOf(HasSubstr("step 2: no checkpoint: "), HasSubstr(moment ? "a second moment of" : "a weight of"),
                        HasSubstr("is not finite: no run could go on from it")));
      EXPECT_EQ(saved.saver.saved_step(), 1);
      saved.saver.go_back(2);
      EXPECT_NE(saved.saver.failure(), "");
      saved.saver.go_back(1);
      EXPECT_EQ(saved.saver.failure(), "") << "the run does not know step 2 any more";
    });
    EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(1));
    EXPECT_FALSE(folder.has("run/checkpoints/step_00000002"));
    EXPECT_THAT(folder.read("run/audit.jsonl"), HasSubstr(R"({"step":2,"event":"checkpoint_failed",)"));
  }
}

TEST(CheckpointSaver, ThreadGroupOneOfTheSameStepStaysUntilTheNewOneIsWhole) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  const TrainConfig config = two_ranks();
  const auto dropped_samples = [&] { return read_manifest(step_folder(run_dir, 1)).data_state().dropped_samples(); };
  run_ranks(2, [&](ProcessGroup& world) {
    SavedTinyRun saved(run_dir, config, world);
    saved.step_and_begin(1);
    saved.saver.finish();
    {
      std::optional<SmallFiles> small;
      if (world.rank() == 0) small.emplace(1000);
      world.barrier();
      saved.saver.begin(saved.run.stream(), {1, 8});
      saved.saver.go_back(1);
      saved.saver.finish();
      EXPECT_EQ(saved.saver.saved_step(), -1) << "the run has gone back";
    }
    // Rank 0 tidies up.
    world.barrier();
    EXPECT_EQ(dropped_samples(), 4) << "the old one";
    world.barrier();
    // What cannot be removed keeps the new one from beginning.
    const std::string in_the_way = folder / "run/checkpoints/replaced_step_00000001/manifest.textproto";
    if (world.rank() == 0) std::filesystem::create_directories(in_the_way + "/x");
    saved.saver.begin(saved.run.stream(), {1, 8});
    EXPECT_EQ(saved.saver.step_in_flight(), -1);
    EXPECT_THAT(saved.saver.failure(), HasSubstr("cannot be emptied"));
    world.barrier();
    EXPECT_EQ(dropped_samples(), 4) << "the old one";
    world.barrier();
    if (world.rank() == 0) std::filesystem::remove_all(in_the_way);
    saved.saver.begin(saved.run.stream(), {1, 8});
    saved.saver.finish();
    EXPECT_EQ(saved.saver.saved_step(), 1);
    EXPECT_EQ(dropped_samples(), 8) << "the new one";
  });
  EXPECT_FALSE(folder.has("run/checkpoints/replaced_step_00000001"));
}

TEST(CheckpointSaver, ThreadGroupTheNewestAndThoseForGoodAreKept) {
  const TempFolder folder;
  const std::string run_dir = folder / "run";
  const TrainConfig config = two_ranks({"checkpoint.every=1", "checkpoint.keep=2", "checkpoint.keep_every=3"});
  run_ranks(2, [&](ProcessGroup& world) {
    SavedTinyRun saved(run_dir, config, world);
    for (int64_t step = 1; step <= 8; ++step) saved.step_and_begin(step);
    saved.saver.finish();
  });
  EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(3, 6, 7, 8));
}

}  // namespace
}  // namespace sluice
