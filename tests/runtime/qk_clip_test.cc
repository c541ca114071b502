#include "runtime/qk_clip.h"

#include <gmock/gmock.h>

#include "tests/runtime/training_fixture.h"

namespace sluice {
namespace {

using Overrides = std::vector<std::string>;

// Between the largest logits of the heads.
constexpr double kLimit = 2.25;
const std::string kClip = "optimizer.qk_clip=2.25";

TrainConfig config_of(Overrides overrides, int ranks, const Overrides& more = {}) {
  overrides.insert(overrides.end(), {"model.qk_norm=false", "model.vocab_size=36", "model.moe.num_experts=4",
                                     "model.moe.moe_intermediate_size=8"});
  overrides.insert(overrides.end(), more.begin(), more.end());
  return tiny_config(overrides, ranks);
}

/// The largest logit of each layer and head.
class LargestLogits : public Probe {
 public:
  bool sees_blocks() const override { return true; }
  bool sees_logits() const override { return true; }
  void see_block(StepContext&, int64_t layer, const TokenBatch&, const BlockSaved& block, Tensor) override {
    const Tensor& x = block.attention.largest;
    of_layers.resize(std::max(of_layers.size(), static_cast<size_t>(layer + 1)));
    std::vector<double>& heads = of_layers[static_cast<size_t>(layer)];
    heads.resize(static_cast<size_t>(x.dim(1)));
    for (int64_t i = 0; i < x.count(); ++i) {
      double& most = heads[static_cast<size_t>(i % x.dim(1))];
      most = std::max(most, x.as<double>()[i]);
    }
  }
  std::vector<std::vector<double>> of_layers;
};

TEST(QkClip, MakesQueriesOfAHeadSmallerByWhatItsLogitsAreTooLarge) {
  // Two micro-steps: the largest is of both.
  const Overrides micro = {"training.micro_batch_size=2"};
  const auto groups = make_thread_groups(1), more = make_thread_groups(1);
  const TrainConfig without = config_of(micro, 1), with = config_of(micro, 1, {kClip});
  TinyRun free(without, *groups[0]), clipped(with, *more[0]);
  LargestLogits largest;
  free.step().set_probe(&largest);
  free.run(1);
  clipped.run(1);
  const std::vector<double> want = free.weights(), got = clipped.weights();
  int made_smaller = 0, kept = 0;
  size_t i = 0;
  for (const ParameterRecord& r : free.model().records) {
    const bool queries = r.name.ends_with("q_proj.weight");
    const size_t layer = r.name.starts_with("model.layers.1.") ? 1 : 0;
    for (int64_t j = 0; j < r.count; ++j, ++i) {
      const double most = queries ? largest.of_layers[layer][static_cast<size_t>(j / (6 * 16))] : 0;
      const double factor = most > kLimit ? kLimit / most : 1;
      made_smaller += queries && factor < 1;
      kept += queries && factor == 1;
      ASSERT_NEAR(got[i], factor * want[i], factor < 1 ? 1e-15 : 0) << r.name << " " << j;
    }
  }
  EXPECT_GT(made_smaller, 0);
  EXPECT_GT(kept, 0);
}

TEST(QkClip, ThreadGroupRanksClipAlike) {
  const Trained one = train_tiny(config_of({}, 1, {kClip}), 1, 3), free = train_tiny(config_of({}, 1), 1, 3);
  EXPECT_GT(std::abs(one.losses[2] - free.losses[2]), 1e-6);
  const std::pair<Overrides, int> layouts[] = {{{"training.micro_batch_size=2", "optimizer.zero_stage=0"}, 2},
                                               {{"training.micro_batch_size=2", "optimizer.zero_stage=1"}, 2},
                                               {{"training.micro_batch_size=2", "optimizer.zero_stage=2"}, 2},
                                               {{"training.micro_batch_size=2", "mesh.tp=2", "mesh.ep=2"}, 4},
                                               {{"mesh.tp=4"}, 4},
                                               {{"training.recompute[0]={first_layer: 0 last_layer: 0}"}, 1}};
  for (const auto& [layout, ranks] : layouts) {
    const Trained all = train_tiny(config_of(layout, ranks, {kClip}), ranks, 3);
    for (size_t i = 0; i < one.losses.size(); ++i) EXPECT_NEAR(all.losses[i], one.losses[i], 1e-10) << ranks;
  }
}

TEST(QkClip, IsRefusedWhereItsWeightsDoNotDecide) {
  const auto refusal = [](const Overrides& overrides) {
    try {
      tiny_config(overrides);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(refusal({kClip, "model.qk_norm=true"}), testing::HasSubstr("set model.qk_norm to false"));
  EXPECT_THAT(refusal({kClip, "model.qk_norm=false", "model.gates[0]={position: G4 combine: ADD}"}),
              testing::HasSubstr("combine: ADD"));
  EXPECT_EQ(refusal({kClip, "model.qk_norm=false", "model.gates[0]={position: G3 combine: ADD}"}), "");
}

}  // namespace
}  // namespace sluice
