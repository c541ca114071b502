#include "runtime/non_finite.h"

#include "tests/runtime/train_fixture.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr int64_t kStep = 3;

/// What of one rank is spoilt in a step.
struct Spoilt {
  const char* name;
  enum Kind { kWeightCopy, kOwnWeight, kMoment, kGradient, kEmbedding, kResidual, kBackward } kind;
  int rank;
  const char* told;
  std::vector<std::string> layout{};
};

class Spoils : public RunHooks, private Probe {
 public:
  Spoils(const Spoilt& fault, const ProcessGroup& world) : fault_(fault), here_(world.rank() == fault.rank) {}

  void before_step(int64_t step, ModelState& model, TrainStep& train_step) override {
    record_ = nullptr;
    train_step.set_probe(nullptr);
    if (step != kStep || !here_) return;
    train_step.wait_for_weights();
    for (const ParameterRecord& record : model.records) {
      if (record.name == "model.layers.1.self_attn.k_proj.weight") record_ = &record;
    }
    gradients_ = &train_step.gradients();
    const Optimizer::Moments moments = train_step.optimizer().moments(*record_);
    const Tensor weights = model.weights.rows(record_->flat_begin, record_->count);
    switch (fault_.kind) {
      case Spoilt::kOwnWeight:
        ASSERT_LT(moments.begin, moments.end);
        return spoil(weights.rows(moments.begin, 1));
      case Spoilt::kWeightCopy:
        ASSERT_FALSE(moments.begin == 0 && moments.end == record_->count);
        return spoil(weights.rows(moments.begin > 0 ? 0 : moments.end, 1));
      case Spoilt::kMoment:
        ASSERT_LT(moments.begin, moments.end);
        return spoil(moments.m.rows(0, 1));
      case Spoilt::kEmbedding:
      case Spoilt::kResidual:
      case Spoilt::kBackward:
        return train_step.set_probe(this, 1);
      case Spoilt::kGradient:
        return;
    }
  }

 private:
  static void spoil(Tensor x) { *x.as<float>() = std::numeric_limits<float>::quiet_NaN(); }

  // The sum of the step's last micro-step.
  void before_backward(int stage) override {
    if (record_ && fault_.kind == Spoilt::kGradient && stage == record_->stage && ++micro_step_ == 2) {
      spoil(gradients_->place(*record_));
    }
  }
  void see(const char* what, int64_t layer, Tensor x) override {
    if (layer < 0 && std::string(what) == "embedding" && fault_.kind == Spoilt::kEmbedding) spoil(x);
    const bool backward = std::string(what).starts_with("gradient");
    if (fault_.kind == Spoilt::kEmbedding) return;
    if (layer == 1 && backward == (fault_.kind == Spoilt::kBackward)) spoil(x);
  }

  const Spoilt& fault_;
  const bool here_;
  int micro_step_ = 0;
  const ParameterRecord* record_ = nullptr;
  const GradientReducer* gradients_ = nullptr;
};

class NonFinite : public TrainTest, public testing::WithParamInterface<Spoilt> {};

TEST_P(NonFinite, ThreadGroupWhereItBeganIsTold) {
  std::vector<std::string> overrides = {"training.steps=4", "stability.lm_loss.action=LOG"};
  overrides.insert(overrides.end(), GetParam().layout.begin(), GetParam().layout.end());
  const TrainConfig c = config(overrides);
  run_ranks(2, [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream stream{Device::kCpu, best_isa(), &pool};
    PhaseTimer startup;
    Spoils hooks(GetParam(), world);
    train(c, folder_ / "run", world, stream, startup, &hooks);
  });
  EXPECT_THAT(folder_.read("run/audit.jsonl"),
              HasSubstr(concat("is nan: the first value that is not finite is ", GetParam().told)));
}

INSTANTIATE_TEST_SUITE_P(
    Faults, NonFinite,
    testing::Values(
        Spoilt{"Weight0",
               Spoilt::kOwnWeight,
               0,
               "a weight of model.layers.1.self_attn.k_proj.weight on rank 0",
               {"optimizer.zero_stage=0"}},
        Spoilt{"Copy0", Spoilt::kWeightCopy, 0, "the keys of layer 1, first seen on rank 0"},
        Spoilt{"Residual1", Spoilt::kResidual, 1, "the residual behind attention of layer 1, first seen on rank 1"},
        Spoilt{"Residual0", Spoilt::kResidual, 0, "the residual behind attention of layer 1, first seen on rank 0"},
        Spoilt{"ResidualOfATensorParallelRank",
               Spoilt::kResidual,
               1,
               "the residual behind attention of layer 1, first seen on rank 1",
               {"mesh.tp=2", "training.micro_batch_size=4", "model.moe.num_experts=4",
                "model.moe.moe_intermediate_size=8"}},
        Spoilt{"Embedding1", Spoilt::kEmbedding, 1, "what the embedding gives, first seen on rank 1"},
        Spoilt{"ResidualOfALayerThatRecomputes",
               Spoilt::kResidual,
               1,
               "the residual behind attention of layer 1, first seen on rank 1",
               {"training.recompute[0]={first_layer: 0 last_layer: 1}"}},
        Spoilt{"Backward1", Spoilt::kBackward, 1,
               "the gradient of the residual behind attention of layer 1, first seen on rank 1"},
        Spoilt{"Gradient0", Spoilt::kGradient, 0, "the gradient of model.layers.1.self_attn.k_proj.weight on rank 0"},
        Spoilt{"Gradient1", Spoilt::kGradient, 1, "the gradient of model.layers.1.self_attn.k_proj.weight on rank 1"},
        Spoilt{"GradientThatIsReducedInPlace",
               Spoilt::kGradient,
               1,
               "the gradient of model.layers.1.self_attn.k_proj.weight, summed over ranks",
               {"optimizer.zero_stage=0"}}),
    [](const auto& of) { return of.param.name; });

TEST_F(TrainTest, ThreadGroupAMomentThatIsNotFiniteIsToldOfTheRankThatKeepsIt) {
  // Its update spoils that rank's weights; the step after that is skipped.
  const Spoilt fault{"", Spoilt::kMoment, 0, "", {}};
  const TrainConfig c = config({"training.steps=4", "stability.lm_loss.action=LOG", "optimizer.zero_stage=0"});
  run_ranks(2, [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream stream{Device::kCpu, best_isa(), &pool};
    PhaseTimer startup;
    Spoils hooks(fault, world);
    train(c, folder_ / "run", world, stream, startup, &hooks);
  });
  EXPECT_THAT(folder_.read("run/audit.jsonl"),
              HasSubstr("a moment of model.layers.1.self_attn.k_proj.weight on rank 0"));
}

}  // namespace
}  // namespace sluice
