#include "runtime/train.h"

#include <mutex>
#include <optional>
#include <random>

#include "runtime/checkpoint/manifest.h"
#include "runtime/step_folders.h"
#include "tests/runtime/train_fixture.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(TrainTest, ThreadGroupGoesBackBeforeAPoisonedBatch) {
  const Outcome clean = run("clean", Disturbance::kNone), rewound = run("rewound", Disturbance::kPoisonedBatch);
  EXPECT_EQ(clean.lost_steps, 0);
  EXPECT_FALSE(folder_.has("clean/audit.jsonl"));
  EXPECT_EQ(rewound.rewinds, 1);
  EXPECT_EQ(rewound.lost_steps, kDisturbed - 50);
  EXPECT_NEAR(rewound.loss, clean.loss, 0.05);
  EXPECT_THAT(folder_.read("rewound/audit.jsonl"),
              HasSubstr("the run goes back to step 50 from memory, samples 400 to 519"));
  EXPECT_EQ(logged_steps("rewound/metrics.jsonl"), range(1, kSteps));
  EXPECT_EQ(logged_steps("rewound/metrics.rewound.jsonl"), range(51, kDisturbed)) << "what was given up";
}

TEST_F(TrainTest, ThreadGroupGoesBackToACheckpointAndLaterOnesDoNotStay) {
  // The session that goes back has step 64 in memory only.
  run("rewound", Disturbance::kNone, {"training.steps=64", "checkpoint.every=4", "checkpoint.keep=20"});
  const std::vector<std::string> second = {"training.steps=70", "checkpoint.every=100", "checkpoint.keep=20"};
  EXPECT_EQ(run("rewound", Disturbance::kPoisonedBatch, second).rewinds, 1);
  EXPECT_THAT(checkpoint_steps(folder_ / "rewound"), ElementsAre(4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 70));
  EXPECT_EQ(logged_steps("rewound/metrics.jsonl"), range(1, 70));
  const Manifest last = read_manifest(step_folder(folder_ / "rewound", 70));
  EXPECT_EQ(last.data_state().dropped_samples(), 8 * (kDisturbed - 52));
  EXPECT_EQ(last.stability().rewind().last_spike_step(), kDisturbed);
  // What the first of the second time line holds is how it began.
  const Manifest first = read_manifest(step_folder(folder_ / "rewound", 52));
  EXPECT_EQ(first.data_state().dropped_samples(), 8 * (kDisturbed - 52));
  EXPECT_EQ(first.stability().rewind().rewinds(), 1);
}

TEST_F(TrainTest, ThreadGroupARunThatGoesBackRepeatsToTheLastBit) {
  for (const char* name : {"first", "second"}) EXPECT_EQ(run(name, Disturbance::kPoisonedBatch).rewinds, 1);
  for (const char* file : {"shard-00000-of-00002.safetensors", "shard-00001-of-00002.safetensors"}) {
    const std::string path = concat("/checkpoints/step_000000", kSteps, "/", file);
    EXPECT_EQ(folder_.read("first" + path), folder_.read("second" + path));
  }
}

TEST_F(TrainTest, ThreadGroupTheLearningRateIsLoweredForAWhile) {
  run("rewound", Disturbance::kPoisonedBatch, {"stability.rewind.lr_factor=0.25", "stability.rewind.lr_steps=7"});
  std::ifstream in(folder_ / "rewound/metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    const nlohmann::json metrics = nlohmann::json::parse(line);
    const int64_t step = metrics["step"];
    EXPECT_EQ(metrics["lr"], step > 50 && step <= 57 ? 0.25e-2 : 1e-2) << step;
  }
}

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

/// One session on two ranks. Returns how it ended, if it was not at its end.
template <class Hooks = StopsAfter>
std::optional<Fault> session(const TrainConfig& config, const std::string& run_dir, int64_t stop) {
  std::optional<Fault> fault;
  std::mutex mutex;
  run_ranks(2, [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream stream{Device::kCpu, best_isa(), &pool};
    PhaseTimer startup;
    Hooks hooks(stop, world);
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

/// What a run has logged, but for times.
std::string losses(const std::string& run_dir) {
  std::ifstream in(run_dir + "/metrics.jsonl");
  std::string all;
  for (std::string line; std::getline(in, line);) {
    nlohmann::json metrics = nlohmann::json::parse(line);
    for (const char* time : {"step_ms", "tokens_per_s", "mfu", "communication_ms"}) metrics.erase(time);
    all += metrics.dump() + "\n";
  }
  return all;
}

TEST_F(TrainTest, ThreadGroupARunThatIsStoppedAnywhereGoesOnAsIfItHadNotBeen) {
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
      const std::optional<Fault> fault = session(c, stopped, random() % 60);
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

TEST_F(TrainTest, ThreadGroupARunThatGoesBackToWhereASignalCutAnEvaluationShortLogsEachStepOnce) {
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

TEST_F(TrainTest, ThreadGroupASignalBeforeTheFirstStepFindsWhatIsSaved) {
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

class Disturbed : public TrainTest, public testing::WithParamInterface<Disturbance> {};

TEST_P(Disturbed, ThreadGroupARunEndsAsOneThatWasLeftAlone) {
  const Outcome clean = run("clean", Disturbance::kNone), disturbed = run("disturbed", GetParam());
  EXPECT_FALSE(disturbed.diverged);
  EXPECT_LE(disturbed.lost_steps, 20);
  // A few large steps, and a bad sample now and then, do not show in this model's loss.
  if (GetParam() != Disturbance::kTenfoldLr && GetParam() != Disturbance::kTokenFile) {
    EXPECT_GE(disturbed.rewinds + disturbed.skips, 1);
  }
  EXPECT_NEAR(disturbed.loss, clean.loss, 0.05);
}

TEST_F(TrainTest, ACorruptedTokenFileDiffersInItsMiddle) {
  corrupt_data(folder_ / "set", folder_ / "bad", 36, 1);
  const std::string good = folder_.read("set.bin"), bad = folder_.read("bad.bin");
  ASSERT_EQ(good.size(), bad.size());
  size_t different = 0, first = good.size(), last = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    if (good[i] == bad[i]) continue;
    ++different, first = std::min(first, i), last = i;
  }
  EXPECT_GE(first, good.size() / 2);
  EXPECT_LT(last, good.size() / 2 + good.size() / 50);
  // The higher byte is 0, and one in 36 is what it was.
  EXPECT_NEAR(static_cast<double>(different), static_cast<double>(good.size()) / 100,
              static_cast<double>(good.size()) / 500);
  // A run of it is another.
  run("clean", Disturbance::kNone, {"training.steps=40"});
  run("corrupted", Disturbance::kTokenFile, {"training.steps=40"});
  EXPECT_NE(losses(folder_ / "clean"), losses(folder_ / "corrupted"));
}

INSTANTIATE_TEST_SUITE_P(All, Disturbed, testing::ValuesIn(kDisturbances), [](const auto& of) {
  std::string name = name_of(of.param);
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

}  // namespace
}  // namespace sluice
