#include "parallel/watch/watchdog.h"

#include <mutex>

#include <gmock/gmock.h>

#include "parallel/thread_group.h"
#include "tests/parallel/late_group.h"

namespace sluice {
namespace {

using testing::HasSubstr;

Tensor view(int64_t& x) { return {&x, DType::kI64, Device::kCpu, {1}}; }

/// What the watchdogs of a group of threads report while they run `body`.
std::vector<std::string> reports(int ranks, double deadline_s, const std::function<void(const Mesh&, Watchdog&)>& body,
                                 bool late_results = false) {
  std::mutex mutex;
  std::vector<std::string> texts;
  const auto rank = [&](ProcessGroup& world) {
    MeshShape shape;
    shape.dp = world.size();
    LateGroup late(world);
    const Mesh mesh(shape, late_results ? late : world);
    WatchdogOptions options;
    options.deadline_s = deadline_s;
    options.places = {"layer 0", "layer 1"};
    options.report = [&](const std::string& text) {
      std::lock_guard lock(mutex);
      texts.push_back(text);
    };
    Watchdog watchdog(mesh, options);
    mesh.observe(&watchdog.observer());
    body(mesh, watchdog);
    mesh.observe(nullptr);
  };
  try {
    run_ranks(ranks, rank);
  } catch (const Error&) {  // a test of failures
  }
  return texts;
}

void rest(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

TEST(Watchdog, AThreadGroupThatGoesOnIsNotReported) {
  EXPECT_THAT(reports(3, 0.3,
                      [](const Mesh& mesh, Watchdog&) {
                        for (int i = 0; i < 20; ++i) {
                          int64_t x = 1;
                          mesh.dp().all_reduce(view(x)).wait();
                          rest(0.05);
                        }
                      }),
              testing::IsEmpty());
}

TEST(Watchdog, InAThreadGroupTheRankThatDoesNotComeIsNamedOnce) {
  const auto late = [](const Mesh& mesh, Watchdog& watchdog) {
    watchdog.begin_step(3);
    watchdog.at(1);
    int64_t x = 1;
    mesh.dp().all_reduce(view(x)).wait();
    if (mesh.world().rank() == 2) rest(2.5);
    mesh.dp().all_reduce(view(x)).wait();
  };
  const std::vector<std::string> texts = reports(3, 0.5, late);
  ASSERT_EQ(texts.size(), 1u);
  EXPECT_THAT(texts[0], HasSubstr("rank 2 ("));
  EXPECT_THAT(texts[0], HasSubstr("has not come: its last call was dp.all_reduce of 1 i64 at watchdog_test.cc:"));
  EXPECT_THAT(texts[0], HasSubstr("waiting: ranks 0 and 1 in dp.all_reduce of 1 i64 at watchdog_test.cc:"));
  EXPECT_THAT(texts[0], HasSubstr("layer 1, step 3"));
}

TEST(Watchdog, WhoeverWaitsForAnEarlierCallIsShownInThatOne) {
  const auto late = [](const Mesh& mesh, Watchdog& watchdog) {
    watchdog.begin_step(3);
    int64_t x = 1, y = 1, all[2] = {};
    if (mesh.world().rank() == 1) rest(2.5);
    Event first = mesh.dp().all_reduce(view(x));
    Event second = mesh.dp().all_gather(view(y), {all, DType::kI64, Device::kCpu, {2}});
    first.wait();
    second.wait();
  };
  const std::vector<std::string> texts = reports(2, 0.5, late, true);
  ASSERT_EQ(texts.size(), 1u);
  EXPECT_THAT(texts[0], HasSubstr("rank 1 ("));
  EXPECT_THAT(texts[0], HasSubstr("has not come"));
  EXPECT_THAT(texts[0], HasSubstr("waiting: rank 0 in dp.all_reduce of 1 i64"));
}

TEST(Watchdog, AThreadGroupMayTakeLongerWhereItSaysSo) {
  EXPECT_THAT(reports(2, 0.3,
                      [](const Mesh& mesh, Watchdog& watchdog) {
                        watchdog.set_deadline(10);
                        if (mesh.world().rank() == 1) rest(2);
                        int64_t x = 1;
                        mesh.dp().all_reduce(view(x)).wait();
                        watchdog.reset_deadline();
                      }),
              testing::IsEmpty());
}

TEST(Watchdog, AfterAFailureOfAThreadGroupTheDifferingRankIsNamed) {
  const std::vector<std::string> texts = reports(3, 100, [](const Mesh& mesh, Watchdog& watchdog) {
    watchdog.begin_step(1);
    std::vector<int64_t> x(2);
    const int64_t count = mesh.world().rank() == 1 ? 2 : 1;
    try {
      mesh.dp().all_reduce({x.data(), DType::kI64, Device::kCpu, {count}}).wait();
    } catch (const Error& error) {
      watchdog.await_verdict(error);
      throw;
    }
  });
  ASSERT_EQ(texts.size(), 1u);
  EXPECT_THAT(texts[0], HasSubstr(") called dp.all_reduce of 2 i64"));
  EXPECT_THAT(texts[0], testing::StartsWith("rank 1 ("));
}

}  // namespace
}  // namespace sluice
