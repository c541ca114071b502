#include "parallel/thread_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/agree.h"
#include "tests/parallel/group_checks.h"

namespace sluice {
namespace {

const std::vector<int> kSizes = {1, 2, 3, 4, 8};

/// Runs a check of group_checks.h at every size.
template <class Check>
void at_every_size(const Check& check) {
  for (const int size : kSizes) run_ranks(size, check);
}

TEST(ThreadGroup, AllReduceAddsInRankOrder) {
  at_every_size([](ProcessGroup& group) { check_all_reduce_adds_in_rank_order(group, {0, 1, 3, 1000}); });
}

TEST(ThreadGroup, AllReduceOfIntegersIsExactAndTakesTheMaximum) { at_every_size(check_integers_and_maximum); }

TEST(ThreadGroup, ReduceScatterAndAllGatherMakeAnAllReduce) {
  at_every_size([](ProcessGroup& group) { check_reduce_scatter_and_all_gather_make_an_all_reduce(group, 17); });
}

TEST(ThreadGroup, AllToAllMovesUnevenRows) {
  for (int64_t n : {0, 1, 1000})
    at_every_size([&](ProcessGroup& group) { check_all_to_all_moves_uneven_rows(group, n); });
}

TEST(ThreadGroup, BroadcastSendAndReceive) { at_every_size(check_broadcast_send_and_receive); }

TEST(ThreadGroup, SplitKeepsOrder) { at_every_size(check_split_keeps_order); }

TEST(ThreadGroup, CountsThatDoNotMatchThrowOnEveryRank) {
  EXPECT_THROW(run_ranks(3,
                         [](ProcessGroup& group) {
                           std::vector<float> x(group.rank() == 1 ? 4 : 5);
                           EXPECT_THROW(group.all_reduce(view(x)), Error);
                           throw Error("as expected", __FILE__, __LINE__);
                         }),
               Error);
}

TEST(ThreadGroup, ARankThatFailsDoesNotLeaveTheOthersWaiting) {
  try {
    run_ranks(4, [](ProcessGroup& group) {
      ENSURE(group.rank() != 2, "rank two is broken");
      group.barrier();
    });
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "rank two is broken");
  }
}

TEST(Agree, EveryRankLeavesAndOneCarriesTheMessage) {
  std::vector<std::string> messages(4, "none");
  run_ranks(4, [&](ProcessGroup& group) {
    try {
      agree(group, [&] { ENSURE(group.rank() == 0, "rank ", group.rank(), " cannot"); });
    } catch (const AgreedError& error) {
      messages[static_cast<size_t>(group.rank())] = error.what();
    }
    agree(group, [] {});
  });
  EXPECT_EQ(messages, (std::vector<std::string>{"", "rank 1 cannot", "", ""}));
}

TEST(Agree, AStringReachesEveryRank) {
  run_ranks(3, [](ProcessGroup& group) {
    EXPECT_EQ(broadcast_string(group, group.rank() ? "" : "hello"), "hello");
    EXPECT_EQ(broadcast_string(group, ""), "");
  });
}

TEST(ThreadGroup, WhatAllAgreedOnIsToldByTheRankThatKnows) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    try {
      run_ranks(4, [](ProcessGroup& world) { agree(world, [&] { ENSURE(world.rank() != 2, "rank 2 cannot"); }); });
      FAIL() << "nothing was thrown";
    } catch (const AgreedError& error) {
      EXPECT_STREQ(error.what(), "rank 2 cannot");
    }
  }
}

}  // namespace
}  // namespace sluice
