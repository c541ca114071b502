#include "runtime/plan/plan.h"

#include <gmock/gmock.h>

#include "tests/runtime/training_fixture.h"

namespace sluice {
namespace {

using testing::Contains;
using testing::Field;
using testing::Not;

class PlanLayouts : public testing::Test {
 protected:
  std::vector<RunPlan> layouts(const TrainConfig& config, bool timed) const {
    const Roofline speed(machine_, DType::kF32);
    const Network network{machine_.ranks_a_node(), machine_.within_node(), machine_.between_nodes()};
    return plan_layouts(config, {speed, network, machine_.memory_bytes(), 0, timed});
  }

  static TrainConfig config(std::vector<std::string> overrides = {}) {
    overrides.insert(overrides.end(), {"training.global_batch_size=16", "model.moe.moe_intermediate_size=8",
                                       "model.moe.num_experts=4", "model.vocab_size=64"});
    return tiny_config(overrides, 4);
  }

  const Machine machine_ = find_machine("h100");
};

TEST_F(PlanLayouts, AreByTheirSpeed) {
  const auto plans = layouts(config(), true);
  ASSERT_GT(plans.size(), 3u);
  for (size_t i = 1; i < plans.size(); ++i) EXPECT_LE(plans[i].tokens_per_s, plans[i - 1].tokens_per_s);
  EXPECT_GT(plans.back().tokens_per_s, 0);
}

TEST_F(PlanLayouts, AreByTheirMemoryWhereNoTimeIsKnown) {
  const auto plans = layouts(config(), false);
  ASSERT_GT(plans.size(), 3u);
  for (const RunPlan& plan : plans) EXPECT_EQ(plan.tokens_per_s, 0);
  for (size_t i = 1; i < plans.size(); ++i) EXPECT_GE(plans[i].memory.total, plans[i - 1].memory.total);
}

TEST_F(PlanLayouts, HaveTheOwnOneWhenItDividesExperts) {
  const auto plans = layouts(config({"mesh.etp=2"}), true);
  EXPECT_THAT(plans, Contains(Field(&RunPlan::mesh, Field(&MeshShape::etp, 2))).Times(1));
  EXPECT_THAT(layouts(config(), true), Not(Contains(Field(&RunPlan::mesh, Field(&MeshShape::etp, 2)))));
}

}  // namespace
}  // namespace sluice
