#include <filesystem>
#include <string>
#include <thread>
#include <utility>

#include "runtime/checkpoint/manifest.h"
#include "runtime/step_folders.h"
#include "tests/runtime/train_fixture.h"
#include "tests/runtime/train_sessions.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using TrainSignalsTest = TrainTest;

TEST_F(TrainSignalsTest, ThreadGroupARunThatIsStoppedAnywhereGoesOnAsIfItHadNotBeen) {
  for (const char* zero : {"optimizer.zero_stage=0", "optimizer.zero_stage=2"}) {
    const TrainConfig c = config({"training.steps=24", "data.eval_every=2", "data.eval_windows=13", zero});
    TrainConfig longer_evaluation = c;
    longer_evaluation.mutable_data()->set_eval_windows(100);
    const std::string straight = folder_ / concat("straight", zero), stopped = folder_ / concat("stopped", zero);
    EXPECT_EQ(session(c, straight, 1 << 30), std::nullopt);
    std::mt19937 random(7);
    int sessions = 0;
    // The start and the stages of the first step ask some twenty times; the first session saves nothing.
    EXPECT_EQ(session(c, stopped, 0), Fault::kUser);
    // One that is sure to meet an evaluation; where random ones do depends on how fast the machine is.
    EXPECT_EQ(session<StopsAtTheEndOf>(longer_evaluation, stopped, 2), Fault::kPreempted);
    EXPECT_NE(read_manifest(step_folder(stopped, 2)).unlogged(), "");
    while (true) {
      const std::optional<Fault> fault = session(c, stopped, random() % 120);
      if (!fault) break;
      const std::vector<int64_t> steps = checkpoint_steps(stopped);
      EXPECT_EQ(*fault, steps.empty() ? Fault::kUser : Fault::kPreempted);
      ASSERT_LT(++sessions, 200);
    }
    EXPECT_GE(sessions, 3);
    EXPECT_EQ(losses(stopped), losses(straight));
    for (const char* shard : {"/shard-00000-of-00002.safetensors", "/shard-00001-of-00002.safetensors"}) {
      EXPECT_EQ(folder_.read(concat("stopped", zero, "/checkpoints/step_00000024", shard)),
                folder_.read(concat("straight", zero, "/checkpoints/step_00000024", shard)));
    }
  }
}

TEST_F(TrainSignalsTest, ThreadGroupARunThatGoesBackToWhereASignalCutAnEvaluationShortLogsEachStepOnce) {
  const std::vector<std::string> common = {"data.eval_every=20", "checkpoint.every=5", "checkpoint.keep=20",
                                           "stability.rewind.steps_back=4"};
  const TrainConfig c = config(common);
  const std::string run_dir = folder_ / "run";
  EXPECT_EQ(session<StopsAtTheEndOf>(c, run_dir, 60), Fault::kPreempted);
  ASSERT_THAT(checkpoint_steps(run_dir), testing::Contains(60));
  ASSERT_NE(read_manifest(step_folder(run_dir, 60)).unlogged(), "");
  std::vector<std::string> second = common;
  second.push_back("checkpoint.every=3");
  EXPECT_EQ(run("run", Disturbance::kPoisonedBatch, second).rewinds, 1);
  EXPECT_EQ(logged_steps("run/metrics.jsonl"), range(1, kSteps));
  for (int64_t step : checkpoint_steps(run_dir)) {
    if (step > 60) {
      EXPECT_EQ(read_manifest(step_folder(run_dir, step)).unlogged(), "") << step;
    }
  }
}

/// A disturbed run that is asked to stop in the first step after it has gone back, or a later one. Its very first step
/// takes so long that the ranks look at least twice in each.
class StopsOnceRewound : public Disturber {
 public:
  StopsOnceRewound(int64_t step, const ProcessGroup& world, int64_t stop = 0)
      : Disturber(Disturbance::kPoisonedBatch, step, 1, world), disturbed_(step), stop_(stop) {}
  void before_step(int64_t step, ModelState& model, TrainStep& train_step) override {
    Disturber::before_step(step, model, train_step);
    if (step == 1) std::this_thread::sleep_for(std::chrono::milliseconds(120));
    seen_ = seen_ || step == disturbed_;
    asked_ = seen_ && step < disturbed_ && step >= stop_;
  }
  bool stop_asked() override { return asked_; }

 private:
  const int64_t disturbed_, stop_;
  bool seen_ = false, asked_ = false;
};

/// Such a run which can replace no checkpoint from the disturbance on, until it is asked to stop.
class StopsWhereNothingCouldBeReplaced : public StopsOnceRewound {
 public:
  StopsWhereNothingCouldBeReplaced(std::string run_dir, int64_t step, int64_t stop, const ProcessGroup& world)
      : StopsOnceRewound(step, world, stop),
        run_dir_(std::move(run_dir)),
        disturbed_(step),
        first_(world.rank() == 0) {}
  void before_step(int64_t step, ModelState& model, TrainStep& train_step) override {
    StopsOnceRewound::before_step(step, model, train_step);
    if (!first_ || (step != disturbed_ && !stop_asked())) return;
    for (const char* replaced : {"replaced_step_00000050", "replaced_step_00000060"}) {
      const std::string in_the_way = concat(run_dir_, "/checkpoints/", replaced, "/manifest.textproto");
      if (stop_asked()) {
        std::filesystem::remove_all(in_the_way);
      } else {
        std::filesystem::create_directories(in_the_way + "/x");
      }
    }
  }

 private:
  const std::string run_dir_;
  const int64_t disturbed_;
  const bool first_;
};

TEST_F(TrainSignalsTest, ThreadGroupACheckpointOfBeforeTheRunHasGoneBackIsNotTakenForItsOwn) {
  const TrainConfig c = config({"checkpoint.keep=3"});
  const std::string run_dir = folder_ / "run";
  EXPECT_EQ(session_with(
                c, run_dir,
                [&](ProcessGroup& world) { return StopsWhereNothingCouldBeReplaced(run_dir, kDisturbed, 61, world); }),
            Fault::kPreempted);
  EXPECT_THAT(folder_.read("run/audit.jsonl"), HasSubstr(R"({"step":60,"event":"checkpoint_failed",)"));
  EXPECT_EQ(checkpoint_steps(run_dir).back(), 60);
  EXPECT_EQ(read_manifest(step_folder(run_dir, 60)).data_state().dropped_samples(), 8 * (kDisturbed - 50));
}

TEST_F(TrainSignalsTest, ThreadGroupASignalAfterARunHasGoneBackToItsNewestCheckpointKeepsThat) {
  const std::vector<std::string> common = {"checkpoint.every=50"};
  EXPECT_EQ(run("straight", Disturbance::kPoisonedBatch, common).rewinds, 1);
  const std::string run_dir = folder_ / "stopped";
  EXPECT_EQ(session<StopsOnceRewound>(config(common), run_dir, kDisturbed), Fault::kPreempted);
  EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(50));
  const Manifest manifest = read_manifest(step_folder(run_dir, 50));
  EXPECT_EQ(manifest.data_state().dropped_samples(), 8 * (kDisturbed - 50));
  EXPECT_EQ(manifest.stability().rewind().rewinds(), 1);
  EXPECT_EQ(session(config(common), run_dir, 1 << 30), std::nullopt);
  for (const char* shard : {"/shard-00000-of-00002.safetensors", "/shard-00001-of-00002.safetensors"}) {
    const std::string path = concat("/checkpoints/step_000000", kSteps, shard);
    EXPECT_EQ(folder_.read("stopped" + path), folder_.read("straight" + path));
  }
}

TEST_F(TrainSignalsTest, ThreadGroupASignalBeforeTheFirstStepFindsWhatIsSaved) {
  const TrainConfig c = config({"training.steps=3"}), longer = config({"training.steps=5"});
  EXPECT_EQ(session(c, folder_ / "run", 0), Fault::kUser);
  EXPECT_FALSE(folder_.has("run/checkpoints/step_00000000"));
  EXPECT_EQ(session(c, folder_ / "run", 4), Fault::kPreempted) << "in its first step";
  EXPECT_THAT(checkpoint_steps(folder_ / "run"), ElementsAre(0));
  EXPECT_THAT(folder_.read("run/audit.jsonl"), HasSubstr("\"event\":\"preempted\""));
  EXPECT_EQ(session(c, folder_ / "run", 1 << 30), std::nullopt);
  EXPECT_EQ(session(longer, folder_ / "run", 0), Fault::kPreempted);
  EXPECT_THAT(checkpoint_steps(folder_ / "run"), ElementsAre(3));
}

TEST_F(TrainSignalsTest, ThreadGroupASignalWhileACheckpointIsReadEndsTheReading) {
  EXPECT_EQ(session(config({"training.steps=3"}), folder_ / "run", 1 << 30), std::nullopt);
  // The phases of a start ask five times; there are more parameters than that.
  EXPECT_EQ(session(config({"training.steps=5"}), folder_ / "run", 10), Fault::kPreempted);
  EXPECT_THAT(folder_.read("run/audit.jsonl"),
              HasSubstr(R"({"step":3,"event":"preempted","reason":"before the first step of a session"})"));
}

}  // namespace
}  // namespace sluice
