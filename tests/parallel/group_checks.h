#pragma once

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "parallel/process_group.h"

// What every kind of group must do, at any size. Each rank of the group calls each check.
namespace sluice {

template <class T>
Tensor view(std::vector<T>& values) {
  return {values.data(), dtype_of<T>(), Device::kCpu, {static_cast<int64_t>(values.size())}};
}

/// What rank `rank` holds: numbers whose sum depends on the order of its terms.
inline std::vector<float> numbers(int rank, size_t count) {
  const Philox random(static_cast<uint64_t>(rank) + 7);
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>((random.uniform(i) - 0.5) * (i % 5 ? 1 : 1e6));
  return values;
}

inline std::vector<float> ordered_sum(int size, size_t count) {
  std::vector<float> sum = numbers(0, count);
  for (int rank = 1; rank < size; ++rank) {
    const std::vector<float> term = numbers(rank, count);
    for (size_t i = 0; i < count; ++i) sum[i] += term[i];
  }
  return sum;
}

inline void check_all_reduce_adds_in_rank_order(ProcessGroup& group, const std::vector<size_t>& counts) {
  for (const size_t count : counts) {
    std::vector<float> x = numbers(group.rank(), count);
    group.all_reduce(view(x)).wait();
    EXPECT_EQ(x, ordered_sum(group.size(), count)) << group.size() << " ranks, " << count << " numbers";
  }
}

inline void check_integers_and_maximum(ProcessGroup& group) {
  const int size = group.size();
  std::vector<int64_t> sum = {int64_t{1} << 59, group.rank()};
  group.all_reduce(view(sum)).wait();
  EXPECT_EQ(sum, (std::vector<int64_t>{size * (int64_t{1} << 59), size * (size - 1) / 2}));
  std::vector<int32_t> most = {group.rank(), -group.rank()};
  group.all_reduce(view(most), ReduceOp::kMax).wait();
  EXPECT_EQ(most, (std::vector<int32_t>{size - 1, 0}));
  std::vector<double> real = {1.5 * group.rank()};
  group.all_reduce(view(real), ReduceOp::kMax).wait();
  EXPECT_EQ(real[0], 1.5 * (size - 1));
  // Of the last rank alone.
  real = {group.rank() == size - 1 ? std::nan("") : 7.0, 7.0};
  group.all_reduce(view(real), ReduceOp::kMax).wait();
  EXPECT_TRUE(std::isnan(real[0]));
  EXPECT_EQ(real[1], 7);
}

/// each  elements of a rank's part
inline void check_reduce_scatter_and_all_gather_make_an_all_reduce(ProcessGroup& group, size_t each) {
  const size_t n = each * static_cast<size_t>(group.size());
  std::vector<float> in = numbers(group.rank(), n), part(each), all(n);
  group.reduce_scatter(view(in), view(part)).wait();
  EXPECT_EQ(in, numbers(group.rank(), n)) << "what goes in stays";
  group.all_gather(view(part), view(all)).wait();
  EXPECT_EQ(all, ordered_sum(group.size(), n)) << each;
  // The same in place.
  const Tensor own = view(in).rows(group.rank() * static_cast<int64_t>(each), static_cast<int64_t>(each));
  group.reduce_scatter(view(in), own).wait();
  group.all_gather(own, view(in)).wait();
  EXPECT_EQ(in, all) << each;
}

/// Rank r sends (r + d) % 3 * n rows of two to rank d, in so many pieces that lie between those of other ranks: each
/// row holds its number among them, and r and d. What comes is laid out in other pieces, last rank first.
inline void check_all_to_all_moves_uneven_rows(ProcessGroup& group, int64_t n, int64_t pieces = 2) {
  const int size = group.size(), rank = group.rank();
  const auto row = [&](int64_t number, int from, int to, std::vector<float>& rows) {
    rows.insert(rows.end(), {static_cast<float>(number), static_cast<float>(from * size + to)});
  };
  std::vector<RowRun> send, receive;
  std::vector<float> in, want;
  int64_t sent = 0, received = 0;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    for (int other = 0; other < size; ++other) {
      const int64_t rows = (rank + other) % 3 * n, begin = rows * piece / pieces, end = rows * (piece + 1) / pieces;
      send.push_back({other, sent, end - begin});
      sent += end - begin;
      for (int64_t i = begin; i < end; ++i) row(i, rank, other, in);
    }
  }
  const int64_t pieces_received = pieces / 2 + 1;
  for (int64_t piece = 0; piece < pieces_received; ++piece) {
    for (int other = size - 1; other >= 0; --other) {
      const int64_t rows = (rank + other) % 3 * n;
      const int64_t begin = rows * piece / pieces_received, end = rows * (piece + 1) / pieces_received;
      receive.push_back({other, received, end - begin});
      received += end - begin;
      for (int64_t i = begin; i < end; ++i) row(i, other, rank, want);
    }
  }
  std::vector<float> out(want.size());
  group.all_to_all(view(in).reshaped({sent, 2}), send, view(out).reshaped({received, 2}), receive).wait();
  EXPECT_EQ(out, want) << size << " ranks, " << n << " rows in " << pieces << " pieces";
}

inline void check_broadcast_send_and_receive(ProcessGroup& group) {
  const int size = group.size();
  for (int root = 0; root < size; ++root) {
    std::vector<int32_t> x = {group.rank()};
    group.broadcast(view(x), root).wait();
    EXPECT_EQ(x[0], root);
  }
  if (size == 1) return;
  std::vector<int32_t> mine = {group.rank()}, other = {-1};
  group.send(view(mine), (group.rank() + 1) % size).wait();
  group.receive(view(other), (group.rank() + size - 1) % size).wait();
  EXPECT_EQ(other[0], (group.rank() + size - 1) % size);
}

/// Splits into even and odd ranks.
inline void check_split_keeps_order(ProcessGroup& group) {
  const int size = group.size(), color = group.rank() % 2;
  const auto half = group.split([](int rank) { return rank % 2; }, "half");
  const int members = (size + 1 - color) / 2;
  ASSERT_EQ(half->size(), members);
  EXPECT_EQ(half->rank(), group.rank() / 2);
  std::vector<int32_t> sum = {group.rank()};
  half->all_reduce(view(sum)).wait();
  EXPECT_EQ(sum[0], members * (members - 1) + color * members);
}

}  // namespace sluice
