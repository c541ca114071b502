#include "runtime/plan/dry_run.h"

#include <map>

#include <gmock/gmock.h>

#include "runtime/diagnostics.h"
#include "runtime/evaluate.h"
#include "runtime/non_finite.h"
#include "runtime/plan/step_clock.h"
#include "runtime/save.h"
#include "runtime/snapshot_ring.h"
#include "tests/runtime/training_fixture.h"
#include "tests/verify/layouts.h"

namespace sluice {
namespace {

using Bytes = std::map<std::string, int64_t>;

void add(const std::string& prefix, const Arena& arena, Bytes& bytes) {
  if (arena.high_water_bytes() > 0) bytes[prefix + arena.name()] = arena.high_water_bytes();
}
void add(const std::string& prefix, const ActivationMemory& memory, Bytes& bytes) {
  for (const Arena* arena : {&memory.kept, &memory.saved, &memory.recompute, &memory.scratch})
    add(prefix, *arena, bytes);
}

/// Two steps that are looked at like logged ones, and an evaluation.
Bytes measured(const TrainConfig& config, ProcessGroup& world) {
  TinyRun run(config, world);
  DiagnosticsProbe diagnostics(config.model(), run.mesh(), DiagnosticsProbe::Detail::kCheap);
  NonFiniteFinder finder(run.mesh(), run.model(), run.step());
  run.step().set_probe(&diagnostics, 1);
  run.step().set_watch(&finder);
  run.step().measure_updates(true);
  for (int64_t step = 1; step <= 2; ++step) {
    finder.begin_step(run.stream());
    run.run(step);
    diagnostics.finish();
  }
  run.step().wait_for_weights();
  ActivationMemory evaluation;
  {
    StepContext ctx = evaluation.context(run.stream(), run.mesh());
    const ArenaScope scope(ctx.scratch);
    EvaluationSums sums(ctx, config.model());
    TransformerSaved saved;
    Batch batch;
    fill_samples(config, 0, config.training().micro_batch_size(), batch);
    batch.pad_to_multiple(run.mesh().shape().tp);
    evaluate_batch(ctx, run.transformer(), run.model().weight_tensors, batch, sums, saved);
  }
  Arena staging("checkpoint copy", MemorySource::kPages, physical_memory_bytes());
  const ShardSnapshot copy(owned_elements(run.model(), run.step().optimizer(), run.mesh()), staging);
  const SnapshotRing ring(run.step().optimizer(), config.stability().rewind().snapshots());
  Bytes bytes;
  add("", run.model().state, bytes);
  add("", run.model().numbers, bytes);
  add("", run.step().gradient_memory(), bytes);
  add("", run.memory(), bytes);
  add("evaluation: ", evaluation, bytes);
  add("", staging, bytes);
  add("", ring.memory(), bytes);
  return bytes;
}

Bytes planned(const TrainConfig& config, int rank) {
  DryRun dry(config, rank);
  Unobserved nobody;
  dry.step(std::min<int64_t>(2, dry.micro_steps()), nobody);
  dry.evaluate(nobody);
  Bytes bytes;
  for (const PlannedArena& arena : dry.memory()) {
    bytes[arena.name] = arena.bytes;
    int64_t sum = 0;
    for (const Arena::Allocation& allocation : arena.peak) sum += allocation.bytes;
    EXPECT_EQ(sum, arena.bytes) << arena.name;
  }
  return bytes;
}

class DryRunOf : public testing::TestWithParam<Layout> {};

TEST_P(DryRunOf, AThreadGroupTakesTheMemoryThatIsPlannedByteForByte) {
  std::vector<std::string> more = {"training.steps=2", "checkpoint.every=1", "stability.lm_loss.action=REWIND"};
  // With every expert chosen by every token, shares are equal.
  if (GetParam().moe) more.push_back("model.moe.top_k=8");
  if (GetParam().tp == 4 && GetParam().gate != "ALL")
    more.insert(more.end(), {"optimizer.qk_clip=0.05", "model.qk_norm=false"});
  if (GetParam().dp == 2) more.push_back("precision=F32");
  const TrainConfig config = layout_config(GetParam(), more);
  run_ranks(GetParam().world(), [&](ProcessGroup& world) {
    EXPECT_EQ(measured(config, world), planned(config, world.rank())) << "rank " << world.rank();
  });
}

INSTANTIATE_TEST_SUITE_P(Random, DryRunOf, testing::ValuesIn(random_layouts(60)), layout_name);

TEST(DryRun, MoreRowsThanAnEvenShareTakeMoreMemory) {
  const TrainConfig config = tiny_config({"mesh.ep=2", "model.moe.num_experts=6", "training.global_batch_size=8"}, 2);
  Unobserved nobody;
  std::map<double, int64_t> rows;
  for (const double imbalance : {0.5, 1.0, 1.5, 9.0}) {
    DryRun dry(config, 0, imbalance);
    dry.step(1, nobody);
    for (const PlannedArena& arena : dry.memory()) {
      for (const Arena::Allocation& allocation : arena.peak) {
        if (arena.name == "saved activations" && allocation.name == "dispatched_rows") {
          rows[imbalance] = allocation.bytes / (16 * 8);
        }
      }
    }
  }
  // 2 x 48 tokens with 2 experts each; rows are padded to cache lines, weights of a row count as rows of their own.
  EXPECT_EQ(rows[9.0], 2 * rows[1.0]) << "all that there is";
  EXPECT_EQ(2 * rows[1.5], 3 * rows[1.0]);
  EXPECT_EQ(2 * rows[0.5], rows[1.0]);
}

TEST(DryRun, InBf16WhatNeedsMoreDigitsHasThem) {
  const std::vector<std::string> common = {"mesh.ep=2", "model.moe.num_experts=6", "training.global_batch_size=8"};
  const auto peaks = [&](TrainConfig::Precision precision) {
    TrainConfig config = tiny_config(common, 2);
    config.set_precision(precision);
    DryRun dry(config, 0);
    Unobserved nobody;
    dry.step(1, nobody);
    std::map<std::string, int64_t> bytes;
    for (const PlannedArena& arena : dry.memory()) {
      for (const Arena::Allocation& allocation : arena.peak)
        bytes[arena.name + "/" + allocation.name] = allocation.bytes;
    }
    return bytes;
  };
  const auto f32 = peaks(TrainConfig::F32), bf16 = peaks(TrainConfig::BF16);
  for (const char* half : {"state/weights", "saved activations/gate_up", "saved activations/attention_in"}) {
    EXPECT_LE(2 * bf16.at(half), f32.at(half) + 64) << half;
  }
  for (const char* same :
       {"state/first_moments", "state/second_moments", "gradients/gradients", "kept activations/router_probs",
        "saved activations/lse", "saved activations/attention_rstd", "state/rope_sine"}) {
    EXPECT_EQ(bf16.at(same), f32.at(same)) << same;
  }
  EXPECT_EQ(bf16.at("state/master_weights"), f32.at("state/first_moments"));
  EXPECT_EQ(f32.count("state/master_weights"), 0u);
}

/// Of one op or call each.
class ATick : public OpSpeed {
  double seconds(const OpCost&) const override { return 1; }
};

TEST(StepPlan, MicroStepsBeyondTheThirdAreAddedUp) {
  const TrainConfig config = tiny_config({"training.global_batch_size=20"});
  class Counter : public PlanObserver {
   public:
    void op(const OpCost& cost) override { flops += cost.flops, ++calls; }
    void before(const GroupCall&) override {}
    void after(const GroupCall&) override {}
    double flops = 0, calls = 0;
  } all;
  DryRun dry(config, 0);
  ASSERT_EQ(dry.micro_steps(), 5);
  dry.step(5, all);
  const Network network;
  const StepPlan plan = plan_step(dry, ATick(), network, MeshShape{});
  double calls = 0;
  for (const auto& [name, op] : plan.ops) calls += op.calls;
  EXPECT_EQ(calls, all.calls);
  EXPECT_EQ(plan.seconds, all.calls);
  EXPECT_DOUBLE_EQ(plan.flops(), all.flops);
}

}  // namespace
}  // namespace sluice
