#include <cstdio>
#include <string_view>

#include <gmock/gmock.h>

#include "parallel/agree.h"
#include "parallel/mpi_session.h"
#include "tests/parallel/group_checks.h"

// The checks of every group, by the ranks of mpirun: once through shared memory, and once by messages, as between
// nodes.
namespace sluice {
namespace {

using testing::HasSubstr;

ProcessGroup* world = nullptr;

// Beyond what a window takes at a time.
constexpr size_t kMany = 700'001;

TEST(MpiGroup, AllReduceAddsInRankOrder) { check_all_reduce_adds_in_rank_order(*world, {0, 1, 3, 1000, kMany}); }

TEST(MpiGroup, AllReduceOfIntegersIsExactAndTakesTheMaximum) { check_integers_and_maximum(*world); }

TEST(MpiGroup, ReduceScatterAndAllGatherMakeAnAllReduce) {
  check_reduce_scatter_and_all_gather_make_an_all_reduce(*world);
}

TEST(MpiGroup, AllToAllMovesUnevenRows) {
  for (int64_t n : {0, 1, 40'000}) check_all_to_all_moves_uneven_rows(*world, n);
}

TEST(MpiGroup, BroadcastSendAndReceive) { check_broadcast_send_and_receive(*world); }

TEST(MpiGroup, SplitOrdersByKey) { check_split_orders_by_key(*world); }

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
  const auto half = world->split(0, world->rank(), "all");
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
      const auto group = world->split(0, world->rank(), "pair");
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

// mpi_group_test [messages]
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool messages = argc > 1 && std::string_view(argv[1]) == "messages";
  sluice::MpiSession session;
  const auto group = sluice::make_mpi_world(messages ? sluice::MpiTransport::kMessages : sluice::MpiTransport::kAuto);
  sluice::world = group.get();
  if (group->rank() > 0)
    delete testing::UnitTest::GetInstance()->listeners().Release(
        testing::UnitTest::GetInstance()->listeners().default_result_printer());
  const int failed = RUN_ALL_TESTS();
  if (failed) std::fprintf(stderr, "rank %d of %d: failed\n", group->rank(), group->size());
  return failed;
}
