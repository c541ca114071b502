#include <cstdlib>
#include <cstring>

#include <gmock/gmock.h>

#include "runtime/verify/shrink.h"
#include "tests/verify/layouts.h"

namespace sluice {
namespace {

void expect_certified(const Layout& layout, bool late = false) {
  const Certificate certificate = verify_on_threads(layout_config(layout), nullptr, late);
  const Comparison* different = certificate.first_difference();
  if (different) {
    ADD_FAILURE() << layout_text(layout) << ": " << different->name << " differs by " << different->error << " after "
                  << different->after;
  }
  EXPECT_GT(certificate.comparisons.size(), 20u);
}

class VerifiedLayout : public testing::TestWithParam<Layout> {};

TEST_P(VerifiedLayout, ComputesWhatOneRankComputes) { expect_certified(GetParam()); }

TEST_P(VerifiedLayout, WaitsForWhatItUses) { expect_certified(GetParam(), true); }

INSTANTIATE_TEST_SUITE_P(ThreadGroup, VerifiedLayout, testing::ValuesIn(chosen_layouts()), layout_name);

/// 40, or as many as SLUICE_LAYOUTS says.
int random_layouts() {
  const char* wanted = std::getenv("SLUICE_LAYOUTS");
  return wanted ? std::atoi(wanted) : 40;
}

TEST(RandomLayouts, ThreadGroupsComputeWhatOneRankComputes) {
  for (int i = 0; i < random_layouts(); ++i) expect_certified(random_layout(static_cast<uint64_t>(i)));
}

/// One step of a layout in f64 and its comparison with one rank.
struct Trial {
  Certificate certificate;
  Evidence evidence;
};
Trial try_one_step(const Layout& layout, const std::function<void(ModelState&)>& prepare) {
  const TrainConfig config = layout_config(layout, {"model.moe.top_k=1", "training.sequence_length=64"});
  Trial trial;
  run_ranks(layout.world(), [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream s{Device::kCpu, best_isa(), &pool};
    const EvidenceOptions options{1, nullptr, prepare};
    Evidence evidence = gather_evidence(config, world, s, options);
    Certificate certificate = verify_layout(config, world, s, options);
    if (world.rank() == 0) trial = {std::move(certificate), std::move(evidence)};
  });
  return trial;
}

TEST(BoundedMemory, AThreadGroupWhoseTokensAllChooseOneExpertFinishesExactlyWithinItsBudget) {
  constexpr int kRanks = 8;
  const auto bytes = [](double budget, bool one_expert) {
    Layout layout;
    layout.dp = kRanks, layout.ep = kRanks, layout.budget = budget;
    // Equal logits: every token chooses the first expert.
    const Trial trial = try_one_step(layout, [&](ModelState& model) {
      for (BlockTensors& block : model.weight_tensors.blocks) {
        if (one_expert) std::memset(block.mlp.router.data, 0, static_cast<size_t>(block.mlp.router.bytes()));
      }
    });
    EXPECT_TRUE(trial.certificate.equal());
    const std::vector<int64_t>& counts = trial.evidence.steps[0].expert_counts;
    EXPECT_EQ(counts[0] == kRanks * 2 * 64 && counts[1] == 0, one_expert) << "rows of the first two experts";
    return static_cast<double>(trial.evidence.activation_bytes);
  };
  // The first rank gets all ranks' rows. A budget that holds them takes what they need; a smaller one its share of
  // that.
  const double even = bytes(1, false), all = bytes(kRanks, true);
  EXPECT_GT(all, 1.5 * even);
  for (const double budget : {1.0, 2.0, 4.0}) {
    EXPECT_LE(bytes(budget, true), 1.02 * (even + (budget - 1) / (kRanks - 1) * (all - even))) << budget;
  }
}

TEST(Shrink, KeepsEveryDivisibilityAndSaysWhatItChanges) {
  Layout layout;
  layout.tp = 4;
  TrainConfig config = layout_config(
      layout, {"training.sequence_length=31", "training.micro_batch_size=4", "training.global_batch_size=4",
               "model.num_layers=6", "training.recompute[0]={first_layer: 1 last_layer: 5}"});
  const std::string changes = shrink_for_verification(config, 4);
  validate_training(config, 4);
  EXPECT_EQ(config.training().micro_batch_size(), 4) << "2 * 31 tokens are not divisible by 4";
  EXPECT_THAT(changes, testing::HasSubstr("model.num_layers 6 -> 2\n"));
  EXPECT_THAT(changes, testing::HasSubstr("layers of training.recompute 5 -> 1\n"));
}

/// What rank 0 gathers of a run in f32.
Evidence train_f32(const Layout& layout, int64_t steps) {
  const TrainConfig config = layout_config(layout, {"precision=F32", "optimizer.lr=1e-3"});
  Evidence evidence;
  run_ranks(layout.world(), [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream s{Device::kCpu, best_isa(), &pool};
    EvidenceOptions options;
    options.steps = steps;
    Evidence own = gather_evidence(config, world, s, options);
    if (world.rank() == 0) evidence = std::move(own);
  });
  return evidence;
}

/// Layouts of one mathematics: micro-steps of four samples, two of them a step.
std::vector<Layout> same_mathematics() {
  std::vector<Layout> layouts;
  for (const auto& [tp, ep, etp, zero] :
       {std::array{1, 1, 1, 0}, {1, 2, 1, 1}, {4, 1, 1, 0}, {2, 2, 2, 2}, {4, 8, 1, 1}}) {
    Layout& l = layouts.emplace_back();
    l.dp = 2, l.tp = tp, l.ep = ep, l.etp = etp, l.zero = zero, l.accumulation = 2;
    l.init_std = 0.05;
  }
  return layouts;
}

TEST(F32, ThreadGroupsStartFromTheSameBits) {
  const Evidence first = train_f32(same_mathematics().front(), 1);
  for (const Layout& layout : same_mathematics()) {
    const Evidence other = train_f32(layout, 1);
    for (size_t i = 0; i < first.initial.size(); ++i) {
      EXPECT_EQ(other.initial[i].values, first.initial[i].values)
          << layout_text(layout) << " " << first.initial[i].name;
    }
  }
}

TEST(F32, FiftyStepsOfThreadGroupsRepeatToTheLastBitAndAgreeBetweenLayouts) {
  constexpr int64_t kSteps = 50;
  const Evidence first = train_f32(same_mathematics().front(), kSteps);
  EXPECT_LT(first.steps.back().lm_loss, first.steps.front().lm_loss);
  for (const Layout& layout : same_mathematics()) {
    const Evidence run = train_f32(layout, kSteps), again = train_f32(layout, kSteps);
    for (size_t i = 0; i < kSteps; ++i) {
      EXPECT_EQ(run.steps[i].loss, again.steps[i].loss) << layout_text(layout) << " step " << i + 1;
      EXPECT_NEAR(run.steps[i].loss, first.steps[i].loss, 1e-5 * first.steps[i].loss)
          << layout_text(layout) << " step " << i + 1;
    }
    for (size_t i = 0; i < run.parameters.size(); ++i) {
      EXPECT_EQ(run.parameters[i].values, again.parameters[i].values) << layout_text(layout);
    }
  }
}

}  // namespace
}  // namespace sluice
