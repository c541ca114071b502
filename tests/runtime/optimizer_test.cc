#include "runtime/optimizer.h"

#include <gmock/gmock.h>

#include "tests/runtime/training_fixture.h"

namespace sluice {
namespace {

using Overrides = std::vector<std::string>;

/// Layouts of the same training, with their ranks.
const std::vector<std::pair<Overrides, int>> kLayouts = {
    {{"training.micro_batch_size=2", "optimizer.zero_stage=0"}, 2},
    {{"training.micro_batch_size=2", "optimizer.zero_stage=1"}, 2},
    {{"training.micro_batch_size=2", "optimizer.zero_stage=2", "mesh.ep=2"}, 2},
    {{"training.micro_batch_size=2", "mesh.tp=2", "mesh.ep=2"}, 4},
    {{"mesh.tp=2", "mesh.etp=2"}, 2}};

TrainConfig config_of(Overrides overrides, int ranks, const Overrides& more = {}) {
  overrides.insert(overrides.end(), {"model.vocab_size=36", "model.moe.num_experts=4",
                                     "model.moe.moe_intermediate_size=8", "model.num_key_value_heads=2"});
  overrides.insert(overrides.end(), more.begin(), more.end());
  return tiny_config(overrides, ranks);
}

/// What rank 0 knows after three steps, each measured.
struct Measured {
  std::vector<std::string> names;
  std::vector<ParameterUpdate> parameters;
  StepResult last;
  std::vector<double> weights;
};
Measured train_measured(const TrainConfig& config, int ranks, bool measured = true) {
  Measured result;
  run_ranks(ranks, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    run.step().measure_updates(measured);
    for (int64_t step = 1; step <= 3; ++step) {
      const StepResult& last = run.run(step);
      if (world.rank() == 0 && step == 3) result.last = last;
    }
    if (world.rank() != 0) return;
    for (const ParameterRecord& r : run.model().records) result.names.push_back(r.name);
    result.parameters = run.step().optimizer().parameter_updates();
    if (ranks == 1) result.weights = run.weights();
  });
  return result;
}

TEST(Optimizer, ThreadGroupRanksMeasureWhatOneRankDoes) {
  const Measured one = train_measured(config_of({}, 1), 1);
  for (const auto& [layout, ranks] : kLayouts) {
    const Measured all = train_measured(config_of(layout, ranks), ranks);
    ASSERT_EQ(all.names, one.names);
    for (size_t i = 0; i < one.parameters.size(); ++i) {
      const ParameterUpdate &got = all.parameters[i], &want = one.parameters[i];
      EXPECT_NEAR(got.squared_gradient, want.squared_gradient, 1e-9 * want.squared_gradient) << one.names[i];
      EXPECT_NEAR(got.rms, want.rms, 1e-6 * want.rms) << one.names[i];
      EXPECT_NEAR(got.staleness, want.staleness, 1e-6 * want.staleness) << one.names[i];
    }
  }
}

TEST(Optimizer, MeasuringChangesNothingAndAddsUpToTheGlobalNorm) {
  const TrainConfig config = config_of({}, 1);
  const Measured measured = train_measured(config, 1), plain = train_measured(config, 1, false);
  EXPECT_EQ(measured.weights, plain.weights);
  EXPECT_TRUE(plain.last.layer_update_rms.empty());
  double squares = 0;
  for (const ParameterUpdate& update : measured.parameters) squares += update.squared_gradient;
  EXPECT_NEAR(std::sqrt(squares), measured.last.grad_norm, 1e-12 * measured.last.grad_norm);
  ASSERT_EQ(measured.last.layer_grad_norm.size(), 2u);
  double of_layers = 0;
  for (size_t i = 0; i < measured.names.size(); ++i) {
    if (measured.names[i].starts_with("model.layers.1.")) of_layers += measured.parameters[i].squared_gradient;
  }
  EXPECT_NEAR(measured.last.layer_grad_norm[1], std::sqrt(of_layers), 1e-12 * measured.last.grad_norm);
  // The third step of AdamW is at most about as large as the first, whose every element is 1.
  for (double rms : measured.last.layer_update_rms) {
    EXPECT_GT(rms, 0.2);
    EXPECT_LT(rms, 1.2);
  }
}

/// Weights of one rank before and after a step, by parameter.
struct Change {
  std::vector<ParameterUpdate> updates;
  std::vector<std::vector<double>> before, after;
};
Change one_step(const Overrides& overrides) {
  Change change;
  const TrainConfig config = config_of({"optimizer.weight_decay=0"}, 1, overrides);
  run_ranks(1, [&](ProcessGroup& world) {
    TinyRun run(config, world);
    const auto weights = [&] {
      std::vector<std::vector<double>> weights;
      for (const ParameterRecord& r : run.model().records) {
        const double* first = run.model().weights.as<double>() + r.flat_begin;
        weights.emplace_back(first, first + r.count);
      }
      return weights;
    };
    run.run(1);
    change.before = weights();
    run.step().measure_updates(true);
    run.run(2);
    change.after = weights();
    change.updates = run.step().optimizer().parameter_updates();
  });
  return change;
}

TEST(Optimizer, UpdateClippingLowersTheRateOfTensorsWhoseSecondMomentIsStale) {
  // In the first step all ratios are 1: it is the same in both. The norm is not clipped, which would hide growth.
  const Change free = one_step({"optimizer.clip=0"}),
               clipped = one_step({"optimizer.clip=0", "optimizer.update_clip=1"});
  int lowered = 0, kept = 0;
  for (size_t i = 0; i < free.updates.size(); ++i) {
    const double factor = std::min(1.0, 1 / free.updates[i].staleness);
    ++(factor < 0.99 ? lowered : kept);
    for (size_t j = 0; j < free.before[i].size(); ++j) {
      const double change = free.after[i][j] - free.before[i][j];
      EXPECT_NEAR(clipped.after[i][j] - clipped.before[i][j], factor * change, 1e-9) << i;
    }
  }
  EXPECT_GT(lowered, 0);
  EXPECT_GT(kept, 0);
}

TEST(Optimizer, ThreadGroupRanksClipUpdatesAlike) {
  const Overrides clip = {"optimizer.update_clip=0.8"};
  const Measured one = train_measured(config_of({}, 1, clip), 1), free = train_measured(config_of({}, 1), 1);
  EXPECT_NE(one.last.losses.loss, free.last.losses.loss);
  for (const auto& [layout, ranks] : kLayouts) {
    const Measured all = train_measured(config_of(layout, ranks, clip), ranks);
    EXPECT_NEAR(all.last.losses.loss, one.last.losses.loss, 1e-10);
  }
}

TEST(Optimizer, IndependentDecayDoesNotDependOnThePeakRate) {
  // Without a gradient that matters, all that changes is the decay.
  const auto decayed = [](const char* lr, bool independent) {
    const TrainConfig config =
        config_of({"model.init_std=0.02", concat("optimizer.lr=", lr), "optimizer.min_lr=0", "optimizer.epsilon=1e12",
                   "optimizer.weight_decay=0.01", concat("optimizer.independent_decay=", independent)},
                  1);
    return train_measured(config, 1).weights;
  };
  EXPECT_THAT(decayed("1e-2", true), testing::Pointwise(testing::DoubleNear(1e-12), decayed("1e-3", true)));
  EXPECT_NE(decayed("1e-2", false), decayed("1e-3", false));
}

}  // namespace
}  // namespace sluice
