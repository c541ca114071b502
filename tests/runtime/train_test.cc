#include "runtime/train.h"

#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <random>

#include "runtime/checkpoint/manifest.h"
#include "runtime/replay.h"
#include "runtime/step_folders.h"
#include "tests/runtime/train_fixture.h"
#include "tests/runtime/train_sessions.h"

namespace sluice {
namespace {

using testing::AllOf;
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

/// Spoils something in a step, once.
class Spoils : public RunHooks {
 public:
  Spoils(int64_t step, std::function<void(TrainStep&, ModelState&)> how) : step_(step), how_(std::move(how)) {}
  void before_step(int64_t step, ModelState& model, TrainStep& train_step) override {
    if (step == step_ && !std::exchange(done_, true)) how_(train_step, model);
  }

 private:
  const int64_t step_;
  const std::function<void(TrainStep&, ModelState&)> how_;
  bool done_ = false;
};

TEST_F(TrainTest, ThreadGroupAStateThatIsNotFiniteIsNotWhatTheNextSessionFinds) {
  const TrainConfig c = config({"training.steps=24", "checkpoint.every=1", "stability.lm_loss.action=LOG"});
  const std::string run_dir = folder_ / "run";
  EXPECT_EQ(session_with(c, run_dir,
                         [](ProcessGroup&) {
                           return Spoils(12, [](TrainStep& train_step, ModelState& model) {
                             for (const ParameterRecord& r : model.records) {
                               const Tensor m = train_step.optimizer().moments(r).m;
                               if (r.name.find("q_proj") != r.name.npos && m.count() > 0) {
                                 *m.as<float>() = std::numeric_limits<float>::quiet_NaN();
                               }
                             }
                           });
                         }),
            Fault::kDiverged);
  // The update of step 12 has a finite gradient and makes a weight that is not.
  EXPECT_THAT(checkpoint_steps(run_dir), ElementsAre(11));
  EXPECT_THAT(folder_.read("run/audit.jsonl"), HasSubstr(R"({"step":12,"event":"checkpoint_failed",)"));
  EXPECT_EQ(session(c, run_dir, 1 << 30), std::nullopt);
  EXPECT_EQ(session(c, folder_ / "clean", 1 << 30), std::nullopt);
  EXPECT_EQ(losses(run_dir), losses(folder_ / "clean"));
}

TEST_F(TrainTest, ThreadGroupAnIndicatorTakesTheRunBackBeforeTheLossTells) {
  const std::vector<std::string> common = {"stability.lm_loss.action=LOG", "stability.grad_norm.action=LOG"};
  const auto larger_norms = [](ProcessGroup&) {
    return Spoils(kDisturbed, [](TrainStep& train_step, ModelState& model) {
      train_step.wait_for_weights();
      // Only what this rank updates: the others get it from here.
      for (const ParameterRecord& r : model.records) {
        if (r.name.find("q_norm") == r.name.npos) continue;
        const Optimizer::Moments own = train_step.optimizer().moments(r);
        float* weights = model.weights.rows(r.flat_begin, r.count).as<float>();
        for (int64_t i = own.begin; i < own.end; ++i) weights[i] *= 30;
      }
      train_step.share_weights();
    });
  };
  for (const bool back : {false, true}) {
    const std::string name = back ? "back" : "told";
    std::vector<std::string> overrides = common;
    if (back) overrides.push_back("stability.indicators.attention_logit_max.action=REWIND");
    EXPECT_EQ(session_with(config(overrides), folder_ / name, larger_norms), std::nullopt);
    if (!back) {
      EXPECT_FALSE(folder_.has("told/audit.jsonl"));
      continue;
    }
    EXPECT_THAT(
        folder_.read("back/audit.jsonl"),
        AllOf(HasSubstr(concat(R"({"step":)", kDisturbed, R"(,"event":"rewind","reason":"attention_logit_max)")),
              HasSubstr("attention is about to look at single tokens only"),
              HasSubstr("the run goes back to step 50 from memory")));
    EXPECT_EQ(logged_steps("back/metrics.jsonl"), range(1, kSteps));
  }
}

TEST_F(TrainTest, ThreadGroupAStepIsReplayedUnlessTheRunHasGoneBackInBetween) {
  const TrainConfig c = config({"checkpoint.keep=20"});
  ASSERT_EQ(run("run", Disturbance::kPoisonedBatch, {"checkpoint.keep=20"}).rewinds, 1);
  const auto replay = [&](int64_t step) {
    std::string told;
    run_ranks(2, [&](ProcessGroup& world) {
      ThreadPool pool(1);
      Stream stream{Device::kCpu, best_isa(), &pool};
      try {
        const std::string same = replay_step(c, folder_ / "run", step, world, stream);
        if (world.rank() == 0) told = same;
      } catch (const AgreedError& error) {
        if (world.rank() == 0) told = error.what();
      }
    });
    return told;
  };
  const std::string refused = "the run went back to step 50 after ";
  EXPECT_THAT(replay(48), HasSubstr("step 48 from ")) << "long before";
  EXPECT_THAT(replay(75), testing::EndsWith("weights and moments are the same when the step is run twice"));
  EXPECT_THAT(replay(55), testing::EndsWith("weights and moments are the same when the step is run twice"))
      << "the checkpoint of step 50 knows that the run went back to it";
  std::filesystem::remove_all(step_folder(folder_ / "run", 50));
  EXPECT_THAT(replay(55), HasSubstr(refused + (folder_ / "run/checkpoints/step_00000040")));
  // One that was lost, since the session ended before it was saved.
  std::ofstream audit(folder_ / "run/audit.jsonl", std::ios::app);
  audit << R"({"step":79,"event":"rewind","reason":"x; the run goes back to step 71 from memory"})" << std::endl;
  EXPECT_THAT(replay(75), HasSubstr("the run went back to step 71 after "));
  audit << R"({"step":70,"event":"resume","reason":"from step_00000070, after rewind 1"})" << std::endl;
  EXPECT_THAT(replay(75), testing::EndsWith("weights and moments are the same when the step is run twice"));
}

TEST_F(TrainTest, ThreadGroupAReplacedCheckpointIsGoneOnFrom) {
  EXPECT_EQ(session(config({"training.steps=3"}), folder_ / "run", 1 << 30), std::nullopt);
  std::filesystem::rename(folder_ / "run/checkpoints/step_00000003",
                          folder_ / "run/checkpoints/replaced_step_00000003");
  EXPECT_EQ(session(config({"training.steps=5"}), folder_ / "run", 1 << 30), std::nullopt);
  EXPECT_THAT(folder_.read("run/audit.jsonl"), HasSubstr("step_00000003"));
  EXPECT_EQ(logged_steps("run/metrics.jsonl"), range(1, 5));
  EXPECT_FALSE(folder_.has("run/checkpoints/replaced_step_00000003"));
}

class Disturbed : public TrainTest, public testing::WithParamInterface<Disturbance> {};

TEST_P(Disturbed, ThreadGroupARunEndsAsOneThatWasLeftAlone) {
  int64_t decisions = 0;
  for (const char* seed : {"training.seed=1", "training.seed=2", "training.seed=3"}) {
    const Outcome clean = run(concat("clean", seed), Disturbance::kNone, {seed});
    const Outcome disturbed = run(concat("disturbed", seed), GetParam(), {seed});
    EXPECT_FALSE(disturbed.diverged);
    EXPECT_LE(disturbed.lost_steps, 20);
    EXPECT_NEAR(disturbed.loss, clean.loss, 0.05);
    decisions += disturbed.rewinds + disturbed.skips;
  }
  // A few large steps, and a bad sample now and then, do not show in this model's loss; nor do all weights matter.
  if (GetParam() != Disturbance::kTenfoldLr && GetParam() != Disturbance::kTokenFile) {
    EXPECT_GE(decisions, 1);
  }
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
