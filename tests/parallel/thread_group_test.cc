#include "parallel/thread_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "parallel/agree.h"
#include "parallel/gradient_reducer.h"

namespace sluice {
namespace {

using testing::HasSubstr;

const std::vector<int> kSizes = {1, 2, 3, 4, 8};

template <class T>
Tensor view(std::vector<T>& values) {
  return {values.data(), dtype_of<T>(), Device::kCpu, {static_cast<int64_t>(values.size())}};
}

/// What rank `rank` holds: numbers whose sum depends on the order of its terms.
std::vector<float> numbers(int rank, size_t count) {
  const Philox random(static_cast<uint64_t>(rank) + 7);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>((random.uniform(i) - 0.5) * (i % 5 ? 1 : 1e6));
  return values;
}

std::vector<float> ordered_sum(int size, size_t count) {
  std::vector<float> sum = numbers(0, count);
  for (int rank = 1; rank < size; ++rank) {
    const std::vector<float> term = numbers(rank, count);
    for (size_t i = 0; i < count; ++i) sum[i] += term[i];
  }
  return sum;
}

TEST(ThreadGroup, AllReduceAddsInRankOrder) {
  for (const int size : kSizes) {
    for (const size_t count : {0, 1, 3, 1000}) {
      run_ranks(size, [&](ProcessGroup& group) {
        std::vector<float> x = numbers(group.rank(), count);
        group.all_reduce(view(x)).wait();
        EXPECT_EQ(x, ordered_sum(size, count)) << size << " ranks";
      });
    }
  }
}

TEST(ThreadGroup, AllReduceOfIntegersIsExactAndTakesTheMaximum) {
  for (const int size : kSizes) {
    run_ranks(size, [&](ProcessGroup& group) {
      std::vector<int64_t> sum = {int64_t{1} << 59, group.rank()};
      group.all_reduce(view(sum)).wait();
      EXPECT_EQ(sum, (std::vector<int64_t>{size * (int64_t{1} << 59), size * (size - 1) / 2}));
      std::vector<int32_t> most = {group.rank(), -group.rank()};
      group.all_reduce(view(most), ReduceOp::kMax).wait();
      EXPECT_EQ(most, (std::vector<int32_t>{size - 1, 0}));
    });
  }
}

TEST(ThreadGroup, ReduceScatterAndAllGatherMakeAnAllReduce) {
  for (const int size : kSizes) {
    run_ranks(size, [&](ProcessGroup& group) {
      const size_t each = 17;
      std::vector<float> in = numbers(group.rank(), each * static_cast<size_t>(size)), part(each), all(in.size());
      group.reduce_scatter(view(in), view(part)).wait();
      group.all_gather(view(part), view(all)).wait();
      EXPECT_EQ(all, ordered_sum(size, in.size()));
    });
  }
}

TEST(ThreadGroup, AllToAllMovesUnevenRows) {
  for (const int size : kSizes) {
    run_ranks(size, [&](ProcessGroup& group) {
      // Rank r sends (r + d) % 3 rows of two to rank d, each holding {r, d}.
      std::vector<int64_t> send_rows, receive_rows;
      std::vector<float> in, want;
      for (int other = 0; other < size; ++other) {
        const int64_t sent = (group.rank() + other) % 3;
        send_rows.push_back(sent);
        receive_rows.push_back(sent);
        for (int64_t i = 0; i < sent; ++i) {
          in.insert(in.end(), {float(group.rank()), float(other)});
          want.insert(want.end(), {float(other), float(group.rank())});
        }
      }
      std::vector<float> out(want.size());
      const Shape rows{static_cast<int64_t>(in.size()) / 2, 2};
      group.all_to_all(view(in).reshaped(rows), send_rows, view(out).reshaped(rows), receive_rows).wait();
      EXPECT_EQ(out, want);
    });
  }
}

TEST(ThreadGroup, BroadcastSendReceiveAndSplit) {
  run_ranks(4, [](ProcessGroup& group) {
    std::vector<int32_t> x = {group.rank()};
    group.broadcast(view(x), 2).wait();
    EXPECT_EQ(x[0], 2);

    std::vector<int32_t> mine = {group.rank()}, other = {-1};
    group.send(view(mine), (group.rank() + 1) % 4).wait();
    group.receive(view(other), (group.rank() + 3) % 4).wait();
    EXPECT_EQ(other[0], (group.rank() + 3) % 4);

    const auto half = group.split(group.rank() % 2, -group.rank(), "half");
    EXPECT_EQ(half->size(), 2);
    EXPECT_EQ(half->rank(), group.rank() < 2 ? 1 : 0) << "a smaller key comes first";
    std::vector<int32_t> sum = {group.rank()};
    half->all_reduce(view(sum)).wait();
    EXPECT_EQ(sum[0], group.rank() % 2 ? 4 : 2);
  });
}

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

TEST(GradientReducer, BucketsDoNotChangeTheSum) {
  for (const int64_t bucket_bytes : {4, 64, 1 << 20}) {
    run_ranks(3, [&](ProcessGroup& group) {
      std::vector<float> gradients = numbers(group.rank(), 101);
      GradientReducer(group, view(gradients), bucket_bytes).reduce();
      EXPECT_EQ(gradients, ordered_sum(3, 101));
    });
  }
}

}  // namespace
}  // namespace sluice
