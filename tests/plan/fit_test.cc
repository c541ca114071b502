#include "runtime/plan/fit.h"

#include <gmock/gmock.h>

#include "runtime/plan/memory_table.h"
#include "tests/runtime/training_fixture.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kMiB = int64_t{1} << 20;

TrainConfig wide_config(const std::vector<std::string>& more = {}, int world = 1) {
  std::vector<std::string> overrides = {
      "model.vocab_size=4096",        "model.hidden_size=256",        "model.moe.moe_intermediate_size=512",
      "training.sequence_length=256", "training.micro_batch_size=16", "training.global_batch_size=64"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return tiny_config(overrides, world);
}

int64_t total(const TrainConfig& config) {
  DryRun dry(config, 0, config.plan().imbalance());
  Unobserved nobody;
  dry.step(2, nobody);
  return memory_table(dry.memory(), cpu_overhead(1, mesh_shape(config).world() > 1)).total;
}

TEST(Fit, SaysNothingOfWhatFitsToTheByte) {
  const TrainConfig config = wide_config();
  EXPECT_EQ(why_it_does_not_fit(config, 0, 1, total(config)), "");
  EXPECT_NE(why_it_does_not_fit(config, 0, 1, total(config) - 1), "");
  const TrainConfig two = wide_config({"mesh.ep=1"}, 2);
  EXPECT_EQ(why_it_does_not_fit(two, 1, 2, 2 * total(two)), "");
  EXPECT_THAT(why_it_does_not_fit(two, 1, 2, 2 * total(two) - 2), HasSubstr("2 of them on this machine"));
}

TEST(Fit, NamesTheLeastChangeThatWouldFit) {
  const TrainConfig config = wide_config();
  EXPECT_THAT(why_it_does_not_fit(config, 0, 1, total(wide_config({"training.micro_batch_size=4"}))),
              HasSubstr("; with training.micro_batch_size=4 it needs "));
  const std::string recompute = "training.recompute[0]={first_layer: 0 last_layer: 1}";
  const TrainConfig one = wide_config({"training.micro_batch_size=1", "training.sequence_length=4096"});
  EXPECT_THAT(
      why_it_does_not_fit(
          one, 0, 1, total(wide_config({"training.micro_batch_size=1", "training.sequence_length=4096", recompute}))),
      HasSubstr("; with training.recompute={first_layer: 0 last_layer: 1} it needs "));
}

TEST(Fit, SaysWhereNothingHelps) {
  EXPECT_THAT(why_it_does_not_fit(wide_config(), 0, 1, 40 * kMiB), HasSubstr("; it takes more machines"));
  EXPECT_THAT(why_it_does_not_fit(wide_config(), 0, 1, 40 * kMiB), Not(HasSubstr("\n")));
}

TEST(Fit, ThisMachineHasMemory) { EXPECT_GT(node_memory_bytes(), 64 * kMiB); }

TEST(MemoryTable, HasAllUsesOfAnArenaByWhatIsInIt) {
  const std::vector<PlannedArena> arenas = {
      {"state", 30, {{"weights", 10}, {"first_moments", 7}, {"second_moments", 8}, {"rope_sine", 5}}},
      {"gradients", 12, {{"stage_gradients", 10}, {"arriving_gradients", 2}}},
      {"saved activations", 9, {{"dispatched_rows", 5}, {"lse", 4}}},
      {"scratch", 7, {{"partial_sum", 3}, {"logits", 4}}},
      {"evaluation: scratch", 6, {{"logits", 6}}},
      {"checkpoint copy", 3, {{"weights", 3}}}};
  const MemoryTable table = memory_table(arenas, cpu_overhead(1, false));
  const std::vector<std::pair<std::string, int64_t>> want = {
      {"weights", 10},        {"moments", 15},      {"gradients", 10},           {"saved_activations", 4},
      {"expert_dispatch", 5}, {"communication", 5}, {"workspace", 4 + 8 * kMiB}, {"evaluation", 6},
      {"checkpoint_copy", 3}, {"other", 5},         {"program", 32 * kMiB}};
  EXPECT_EQ(table.uses, want);
  EXPECT_EQ(table.total, 67 + 40 * kMiB);
  EXPECT_EQ(memory_table(arenas, {0, 5, true}).total, 64 + 5) << "copies are elsewhere";
}

}  // namespace
}  // namespace sluice
