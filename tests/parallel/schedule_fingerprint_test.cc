#include "parallel/schedule_fingerprint.h"

#include <gmock/gmock.h>

#include "parallel/agree.h"
#include "parallel/thread_group.h"

namespace sluice {
namespace {

using testing::HasSubstr;

/// A call as an observer would see it, without making it.
void call(ScheduleFingerprint& fingerprint, ProcessGroup& group, const char* operation, int64_t count,
          Site site = Site::current()) {
  static double nothing[1] = {};
  const Tensor x{nothing, DType::kF64, Device::kCpu, {count}};
  fingerprint.before({operation, group, x, x, site, 1});
}

/// What rank 0 of four reports after every rank has made three calls, one rank differently; empty: nothing.
std::string reported(const std::function<void(ScheduleFingerprint&, ProcessGroup&)>& usual,
                     const std::function<void(ScheduleFingerprint&, ProcessGroup&)>& different, int rank) {
  std::string message;
  run_ranks(4, [&](ProcessGroup& world) {
    ScheduleFingerprint fingerprint({"layer 0", "layer 1"});
    call(fingerprint, world, "all_reduce", 5);
    fingerprint.at(1);
    (world.rank() == rank ? different : usual)(fingerprint, world);
    call(fingerprint, world, "barrier", 0);
    try {
      fingerprint.compare(world);
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.fault(), Fault::kHang);
      if (world.rank() == 0) message = error.what();
    }
  });
  return message;
}

TEST(ScheduleFingerprint, AThreadGroupThatMakesTheSameCallsPasses) {
  const auto usual = [](ScheduleFingerprint& f, ProcessGroup& g) { call(f, g, "all_gather", 7); };
  EXPECT_EQ(reported(usual, usual, 1), "");
  // How many rows go to an expert depends on the data.
  const auto rows = [](int64_t n) {
    return [n](ScheduleFingerprint& f, ProcessGroup& g) { call(f, g, "all_to_all", n, Site()); };
  };
  EXPECT_EQ(reported(rows(3), rows(4), 1), "");
}

TEST(ScheduleFingerprint, TheRankOfAThreadGroupThatDiffersIsNamedWithItsCall) {
  const auto usual = [](ScheduleFingerprint& f, ProcessGroup& g) { call(f, g, "all_gather", 7); };
  for (int rank = 0; rank < 4; ++rank) {
    const std::string culprit = concat("rank ", rank, " made other calls than the rest: call 2 of the step is ");
    const auto skipped = reported(
        usual, [](ScheduleFingerprint&, ProcessGroup&) {}, rank);
    EXPECT_THAT(skipped, HasSubstr(culprit + "world.barrier"));
    EXPECT_THAT(skipped, HasSubstr("elsewhere world.all_gather of 7 f64 at schedule_fingerprint_test.cc:"));
    const auto counted = reported(
        usual, [](ScheduleFingerprint& f, ProcessGroup& g) { call(f, g, "all_gather", 8); }, rank);
    EXPECT_THAT(counted, HasSubstr(culprit + "world.all_gather of 8 f64"));
    EXPECT_THAT(counted, HasSubstr(", layer 1, elsewhere world.all_gather of 7 f64"));
  }
}

}  // namespace
}  // namespace sluice
