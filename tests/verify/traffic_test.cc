#include "parallel/traffic.h"

#include <map>

#include <gmock/gmock.h>

#include "runtime/plan/step_clock.h"
#include "tests/runtime/training_fixture.h"
#include "tests/verify/layouts.h"

namespace sluice {
namespace {

using Sent = std::map<std::pair<std::string, std::string>, int64_t>;

/// What a rank sends in its second step, whose updates are measured as in those that are logged.
Sent measured(const TrainConfig& config, ProcessGroup& world, bool logged) {
  TinyRun run(config, world);
  run.run(1);
  run.step().measure_updates(logged);
  TrafficMeter meter;
  run.mesh().observe(&meter);
  run.run(2);
  run.mesh().observe(nullptr);
  Sent sent;
  for (const auto& [operation, traffic] : meter.by_operation()) {
    if (traffic.bytes_sent > 0) sent[operation] = traffic.bytes_sent;
  }
  return sent;
}

class TrafficPlanOf : public testing::TestWithParam<Layout> {};

TEST_P(TrafficPlanOf, AThreadGroupSendsWhatThePlanSaysByteForByte) {
  // With every expert chosen by every token, shares are equal.
  std::vector<std::string> more = {"training.steps=2"};
  if (GetParam().moe) more.push_back("model.moe.top_k=8");
  if (GetParam().tp == 2) more.push_back("optimizer.update_clip=1");
  if (GetParam().tp == 4 && GetParam().gate != "ALL")
    more.insert(more.end(), {"optimizer.qk_clip=0.05", "model.qk_norm=false"});
  const TrainConfig config = layout_config(GetParam(), more);
  run_ranks(GetParam().world(), [&](ProcessGroup& world) {
    for (const bool logged : {false, true}) {
      EXPECT_EQ(measured(config, world, logged), planned_traffic(config, world.rank(), logged))
          << "rank " << world.rank();
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Random, TrafficPlanOf, testing::ValuesIn(random_layouts(60)), layout_name);

}  // namespace
}  // namespace sluice
