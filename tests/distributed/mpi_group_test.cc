#include <atomic>
#include <cstdio>
#include <functional>
#include <string_view>

#include <gmock/gmock.h>
#include <mpi.h>

#include "parallel/agree.h"
#include "parallel/mpi_session.h"
#include "tests/parallel/group_checks.h"
#include "tests/runtime/allocations.h"

// The checks of every group, by the ranks of mpirun: through the memory of a node, with and without direct reading, and
// by messages, as between nodes.
namespace {

// What leaves this rank, as MPI is given it.
std::atomic<int64_t> bytes_given_to_mpi{0};

}  // namespace

// Takes the place of MPI's own, as the standard foresees for tools.
extern "C" int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                         MPI_Request* request) {
  bytes_given_to_mpi += count;
  return PMPI_Isend(data, count, type, to, tag, comm, request);
}

namespace sluice {
namespace {

using testing::HasSubstr;

ProcessGroup* world = nullptr;
bool by_messages = false;

int all_alike(int) { return 0; }

// Beyond what a window takes at a time, and what is read directly.
constexpr size_t kMany = 700'001;

TEST(MpiGroup, AllReduceAddsInRankOrder) { check_all_reduce_adds_in_rank_order(*world, {0, 1, 3, 1000, kMany}); }

TEST(MpiGroup, AllReduceOfIntegersIsExactAndTakesTheMaximum) { check_integers_and_maximum(*world); }

TEST(MpiGroup, ReduceScatterAndAllGatherMakeAnAllReduce) {
  for (const size_t each : {size_t{17}, size_t{70'001}, kMany}) {
    check_reduce_scatter_and_all_gather_make_an_all_reduce(*world, each);
  }
}

TEST(MpiGroup, AllToAllMovesUnevenRows) {
  for (int64_t n : {0, 1, 100'000}) check_all_to_all_moves_uneven_rows(*world, n);
  // More pieces than a call to the kernel takes, and more than a slot tells the places of.
  for (int64_t pieces : {200, 5000}) check_all_to_all_moves_uneven_rows(*world, 140'000, pieces);
}

TEST(MpiGroup, BroadcastSendAndReceive) { check_broadcast_send_and_receive(*world); }

TEST(MpiGroup, SplitKeepsOrder) { check_split_keeps_order(*world); }

TEST(MpiGroup, NativeSumsAreCloseToOrderedOnes) {
  std::vector<float> native = numbers(world->rank(), kMany);
  world->all_reduce(view(native), ReduceOp::kSum, SumOrder::kNative).wait();
  const std::vector<float> ordered = ordered_sum(world->size(), kMany);
  // Terms reach half a million.
  for (size_t i = 0; i < kMany; ++i) ASSERT_NEAR(native[i], ordered[i], 0.5 * world->size()) << i;
}

TEST(MpiGroup, AMessageAboveAGibibyteArrivesInPieces) {
  if (world->size() != 2) GTEST_SKIP() << "takes a gibibyte a rank";
  std::vector<int64_t> x((size_t{1} << 27) + 3, world->rank() ? -1 : 5);
  x.back() = world->rank() ? -1 : 7;
  world->broadcast(view(x), 0).wait();
  EXPECT_EQ(x[0], 5);
  EXPECT_EQ(x[x.size() - 2], 5);
  EXPECT_EQ(x.back(), 7);
}

TEST(MpiGroup, AFailingCallThrowsWithTheCallAndMpisText) {
  std::vector<int32_t> x = {1};
  const auto half = world->split(all_alike, "all");
  for (ProcessGroup* group : {world, half.get()}) {
    try {
      group->send(view(x), group->size() + 3).wait();
      FAIL() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kInternal);
      EXPECT_THAT(error.what(), HasSubstr("MPI_Isend"));
      EXPECT_THAT(error.what(), HasSubstr("MPI_ERR_RANK"));
    }
  }
}

TEST(MpiGroup, AMessageOfAnotherSizeIsAnErrorThatNamesBothSides) {
  if (world->size() != 2) GTEST_SKIP() << "for two ranks";
  // Small ones, whose sending does not wait for the other side.
  for (const size_t sent : {0, 3, 4}) {
    for (const size_t expected : {0, 3, 4, 100'000}) {
      if (sent == expected) continue;
      const auto group = world->split(all_alike, "pair");
      std::vector<double> x(sent), y(expected);
      if (world->rank() == 0) {
        group->send(view(x), 1).wait();
        continue;
      }
      try {
        group->receive(view(y), 0).wait();
        ADD_FAILURE() << "nothing was thrown";
      } catch (const Error& error) {
        EXPECT_EQ(error.fault(), Fault::kHang);
        EXPECT_THAT(error.what(), HasSubstr(concat("group pair: its rank 0 sends ", x.size() * 8, " bytes")));
        EXPECT_THAT(error.what(), HasSubstr(concat("where its rank 1 expects ", y.size() * 8)));
      }
    }
  }
}

class ByteCounter : public GroupObserver {
 public:
  void before(const GroupCall& call) override { bytes += call.bytes_sent; }
  void after(const GroupCall&) override {}
  int64_t bytes = 0;
};

TEST(MpiGroup, WhatCallsCountIsWhatLeaves) {
  if (!by_messages) GTEST_SKIP() << "within a node nothing is sent";
  const int64_t size = world->size(), n = 300'000 * size;  // several slices
  ByteCounter counted;
  const auto group = world->split(all_alike, "all");
  group->observe(&counted);
  std::vector<float> x(static_cast<size_t>(n)), part(static_cast<size_t>(n / size));
  std::vector<RowRun> sent, received;
  for (int64_t r = 0; r < size; ++r) {
    sent.push_back({r, static_cast<int64_t>(sent.size()) * 100, 10 + world->rank()});
    received.push_back({r, r * 100, 10 + r});
  }
  Tensor rows = view(x), arrived;
  std::vector<float> y(x.size());
  rows.shape = {n / 1000, 1000};
  arrived = view(y);
  arrived.shape = rows.shape;
  const std::vector<std::pair<const char*, std::function<Event()>>> calls = {
      {"all_reduce", [&] { return group->all_reduce(view(x)); }},
      {"reduce_scatter", [&] { return group->reduce_scatter(view(x), view(part)); }},
      {"all_gather", [&] { return group->all_gather(view(part), view(x)); }},
      {"all_to_all", [&] { return group->all_to_all(rows, sent, arrived, received); }},
  };
  for (const auto& [operation, call] : calls) {
    counted.bytes = 0;
    world->barrier();
    const int64_t before = bytes_given_to_mpi;
    call().wait();
    // All ranks together: where parts are uneven, a rank's own differ by some elements.
    std::vector<int64_t> bytes = {bytes_given_to_mpi - before, counted.bytes};
    world->all_reduce(view(bytes)).wait();
    EXPECT_EQ(bytes[0], bytes[1]) << operation;
    EXPECT_EQ(bytes[0] > 0, size > 1) << operation;
  }
}

TEST(MpiGroup, RepeatedCallsWithinANodeAllocateNothing) {
  if (by_messages) GTEST_SKIP() << "messages are lists";
  const int64_t size = world->size();
  for (const int64_t n : {100 * size, 500'000 * size}) {
    std::vector<float> x(static_cast<size_t>(n)), y(x.size()), part(static_cast<size_t>(n / size));
    std::vector<RowRun> runs;
    for (int64_t r = 0; r < size; ++r) runs.push_back({r, r * n / size, n / size});
    const auto all = [&] {
      world->all_reduce(view(x)).wait();
      world->reduce_scatter(view(x), view(part)).wait();
      world->all_gather(view(part), view(x)).wait();
      world->all_to_all(view(x), runs, view(y), runs).wait();
    };
    all();
    const int64_t before = allocations_of_this_thread();
    all();
    EXPECT_EQ(allocations_of_this_thread(), before) << n;
  }
}

TEST(MpiGroup, GroupsDoNotWaitForEachOther) {
  if (world->size() != 2) GTEST_SKIP() << "for two ranks";
  // Large enough that it cannot leave before it is received.
  std::vector<double> large(1'000'000, world->rank() ? 3 : 0), small(10, 1);
  const auto first = world->split(all_alike, "first"), second = world->split(all_alike, "second");
  Event sent;
  if (world->rank() == 1) sent = first->send(view(large), 0);
  second->all_reduce(view(small)).wait();
  second->barrier();
  if (world->rank() == 0) first->receive(view(large), 1).wait();
  sent.wait();
  EXPECT_EQ(large.back(), 3);
  EXPECT_EQ(small.back(), 2);
}

TEST(MpiGroup, AnEventThatGoesUnwaitedWaits) {
  const auto group = world->split(all_alike, "all");
  std::vector<float> x = numbers(world->rank(), kMany);
  { const Event dropped = group->all_reduce(view(x)); }
  EXPECT_EQ(x, ordered_sum(world->size(), kMany));
}

TEST(MpiGroup, WhatWaitsBehindAFailureFailsToo) {
  if (!by_messages) GTEST_SKIP() << "within a node calls are over when they return";
  if (world->size() != 2) GTEST_SKIP() << "for two ranks";
  const auto group = world->split(all_alike, "pair");
  std::vector<double> x(3), y(world->rank() ? 4 : 3);
  if (world->rank() == 0) {
    world->barrier();
    return group->send(view(y), 1).wait();
  }
  Event first = group->receive(view(y), 0), second = group->receive(view(x), 0);
  world->barrier();
  EXPECT_THROW(second.wait(), CountMismatch);
  EXPECT_THROW(first.wait(), CountMismatch);
  EXPECT_THROW(group->receive(view(x), 0).wait(), CountMismatch) << "nothing fits any more";
}

TEST(MpiGroup, EveryRankAgreesOnAFailure) {
  const int last = world->size() - 1;
  try {
    agree(*world, [&] { ENSURE(world->rank() != last, "rank ", last, " cannot"); });
    FAIL() << "nothing was thrown";
  } catch (const AgreedError& error) {
    EXPECT_STREQ(error.what(), world->rank() == last ? concat("rank ", last, " cannot").c_str() : "");
  }
}

}  // namespace
}  // namespace sluice

// mpi_group_test [auto|shared|messages]
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string_view transport = argc > 1 ? argv[1] : "auto";
  sluice::by_messages = transport == "messages";
  sluice::MpiSession session;
  const auto group = sluice::make_mpi_world(sluice::by_messages     ? sluice::MpiTransport::kMessages
                                            : transport == "shared" ? sluice::MpiTransport::kShared
                                                                    : sluice::MpiTransport::kAuto);
  sluice::world = group.get();
  if (group->rank() > 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  const int failed = RUN_ALL_TESTS();
  if (failed) std::fprintf(stderr, "rank %d of %d: failed\n", group->rank(), group->size());
  return failed;
}
