#include "runtime/plan/step_clock.h"

#include <gmock/gmock.h>

#include "parallel/planned_group.h"
#include "runtime/plan/calibrate.h"
#include "tests/runtime/training_fixture.h"

namespace sluice {
namespace {

using testing::HasSubstr;

Link link(double bytes_per_s, double latency_s) {
  Link link;
  link.set_bytes_per_s(bytes_per_s);
  link.set_latency_s(latency_s);
  return link;
}

/// An op takes as many seconds as it has operations.
class ByFlops : public OpSpeed {
  double seconds(const OpCost& cost) const override { return cost.flops; }
};

Tensor floats(int64_t n) { return {nullptr, DType::kF32, Device::kNone, {n}}; }

/// A rank of four on nodes of two, 100 bytes a second within and 10 between, 1 s a meeting.
class Clock : public testing::Test {
 protected:
  Clock() : network_{2, link(100, 1), link(10, 1)}, world_(make_planned_group(0, 4)), mesh_(shape_, *world_) {
    mesh_.observe(&clock_);
  }

  const ByFlops speed_;
  Network network_;
  const MeshShape shape_{2, 2, 4, 1};
  StepClock clock_{speed_, network_, shape_};
  std::unique_ptr<ProcessGroup> world_;
  const Mesh mesh_;
};

TEST_F(Clock, WhatGoesOnBesideOpsIsExposedAsFarAsItIsWaitedFor) {
  // (2 - 1) / 2 of 200 floats, within a node: 4 s and a meeting.
  Event event = mesh_.tp().reduce_scatter(floats(200), floats(100));
  clock_.op({"gemm", 3, 0});
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 3);
  event.wait();
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 5);
  const StepPlan::Calls& calls = clock_.plan().calls.at({"tp", "reduce_scatter"});
  EXPECT_EQ(calls.bytes_sent, 400);
  EXPECT_DOUBLE_EQ(calls.seconds, 5);
  EXPECT_DOUBLE_EQ(calls.exposed, 2);
  EXPECT_DOUBLE_EQ(clock_.plan().exposed(), 2);
}

TEST_F(Clock, WhatIsOverIsNotWaitedFor) {
  Event event = mesh_.tp().reduce_scatter(floats(200), floats(100));
  clock_.op({"gemm", 30, 0});
  event.wait();
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 30);
}

TEST_F(Clock, CallsOfAGroupFollowOneAnother) {
  Event first = mesh_.tp().reduce_scatter(floats(200), floats(100));
  Event second = mesh_.tp().reduce_scatter(floats(200), floats(100));
  second.wait();
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 10);
  first.wait();
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 10);
}

TEST_F(Clock, GroupsOfSeveralNodesTakeTheLinkBetweenThem) {
  mesh_.dp().reduce_scatter(floats(200), floats(100)).wait();
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 41);
}

TEST_F(Clock, AnExchangeLeavesTheNodeForThoseOutsideOnly) {
  std::vector<RowRun> runs;
  for (int rank = 0; rank < 4; ++rank) runs.push_back({rank, rank, 1});
  const Tensor rows{nullptr, DType::kF32, Device::kNone, {4, 10}};
  mesh_.experts().all_to_all(rows, runs, rows, runs).wait();
  // 80 of 120 bytes, and two meetings.
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 8 + 2);
}

TEST_F(Clock, WhereTheRankMovesTheBytesItselfNothingIsHidden) {
  network_.takes_core = true;
  Event event = mesh_.tp().reduce_scatter(floats(200), floats(100));
  clock_.op({"gemm", 30, 0});
  event.wait();
  EXPECT_DOUBLE_EQ(clock_.plan().seconds, 35);
  EXPECT_DOUBLE_EQ(clock_.plan().exposed(), 5);
}

TEST(Roofline, AnOpTakesAsLongAsItsOperationsOrItsBytes) {
  Machine machine;
  machine.set_f32_flops(100);
  machine.set_bf16_flops(1000);
  machine.set_memory_bytes_per_s(10);
  machine.set_matrix_share(0.5);
  machine.set_grouped_matrix_share(0.25);
  machine.set_memory_share(1);
  machine.set_op_s(1);
  EXPECT_DOUBLE_EQ(Roofline(machine, DType::kF32).seconds({"gemm", 200, 10}), 1 + 4);
  EXPECT_DOUBLE_EQ(Roofline(machine, DType::kF32).seconds({"gemm", 200, 90}), 1 + 9);
  EXPECT_DOUBLE_EQ(Roofline(machine, DType::kBF16).seconds({"grouped_gemm", 500, 10}), 1 + 2);
}

TEST(Machines, AreKnownByNameWithAllFigures) {
  for (const std::string& name : machine_names()) {
    const Machine machine = find_machine(name);
    EXPECT_GT(machine.source_size(), 0) << name;
    for (const double figure : {machine.memory_bytes(), machine.reserved_bytes(), machine.f32_flops(),
                                machine.bf16_flops(), machine.memory_bytes_per_s(), machine.matrix_share(),
                                machine.grouped_matrix_share(), machine.attention_share(), machine.memory_share(),
                                machine.op_s(), machine.within_node().bytes_per_s(), machine.within_node().latency_s(),
                                machine.between_nodes().bytes_per_s(), machine.between_nodes().latency_s()}) {
      EXPECT_GT(figure, 0) << name;
    }
  }
  try {
    find_machine("h10");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("--device h10 is not known; there are cpu, h100, h200, b200"));
  }
}

TEST(MeasuredSpeed, KnowsWhatWasTimedAndScalesTheRest) {
  MeasuredSpeed speed;
  for (const double seconds : {1.0, 8.0, 3.0}) speed.add({"gemm", 100, 10}, seconds);
  speed.add({"add", 0, 50}, 5);
  EXPECT_EQ(speed.seconds({"gemm", 100, 10}), 4) << "the mean";
  EXPECT_DOUBLE_EQ(speed.seconds({"gemm", 50, 10}), 2) << "12 s for 300 operations";
  EXPECT_DOUBLE_EQ(speed.seconds({"add", 0, 20}), 2);
  EXPECT_EQ(speed.seconds({"unknown", 1, 1}), 0);
  speed.slow_down(3);
  EXPECT_EQ(speed.seconds({"gemm", 100, 10}), 12);
}

TEST(Calibrate, TimesEveryOpOfAStep) {
  const TrainConfig config = tiny_config({"precision=F32", "training.recompute[0]={first_layer: 1 last_layer: 1}"});
  const Calibration calibration = calibrate(config, 1);
  EXPECT_GT(calibration.copied_bytes_per_s, 0);
  DryRun dry(config, 0);
  Network network;
  const StepPlan plan = plan_step(dry, calibration.speed, network, MeshShape{}, false);
  // What looks for values that are not finite is no part of the calibration.
  for (const auto& [name, op] : plan.ops) {
    if (name != "max_abs") {
      EXPECT_GT(op.seconds, 0) << name;
    }
  }
}

}  // namespace
}  // namespace sluice
