#include "parallel/mesh.h"

#include <gmock/gmock.h>

#include "parallel/flat_layout.h"
#include "parallel/owned_parts.h"
#include "parallel/thread_group.h"

namespace sluice {
namespace {

using testing::ElementsAre;

/// 8 ranks: dp 2 x tp 4, edp 2 x ep 2 x etp 2, two ranks a key-value head.
MeshShape eight() { return {2, 4, 2, 2, 2}; }

/// World ranks of the group of a rank.
std::vector<int64_t> members(ProcessGroup& group, int world_rank) {
  int64_t own = world_rank;
  std::vector<int64_t> all(static_cast<size_t>(group.size()));
  group.all_gather({&own, DType::kI64, Device::kCpu, {1}}, {all.data(), DType::kI64, Device::kCpu, {group.size()}})
      .wait();
  return all;
}

TEST(Mesh, ThreadGroupRanksAreFoldedTwiceWithTheLastAxisTheFastest) {
  run_ranks(8, [](ProcessGroup& world) {
    const Mesh mesh(eight(), world);
    const auto tp = members(mesh.tp(), world.rank()), dp = members(mesh.dp(), world.rank());
    const auto experts = members(mesh.experts(), world.rank()), edp = members(mesh.edp(), world.rank());
    const auto kv = members(mesh.replicas(Replicas::kKeyValue), world.rank());
    if (world.rank() != 6) return;
    EXPECT_EQ(mesh.place().dp, 1);
    EXPECT_EQ(mesh.place().tp, 2);
    EXPECT_EQ(mesh.place().edp, 1);
    EXPECT_EQ(mesh.place().ep, 1);
    EXPECT_EQ(mesh.place().etp, 0);
    EXPECT_THAT(tp, ElementsAre(4, 5, 6, 7));
    EXPECT_THAT(dp, ElementsAre(2, 6));
    EXPECT_THAT(experts, ElementsAre(4, 5, 6, 7));
    EXPECT_THAT(edp, ElementsAre(2, 6));
    EXPECT_THAT(kv, ElementsAre(2, 3, 6, 7));
  });
}

TEST(Mesh, GroupsOfThreadGroupRanksAreAsTheShapeSays) {
  run_ranks(8, [](ProcessGroup& world) {
    const Mesh mesh(eight(), world);
    for (int kind = 0; kind < kReplicaKinds; ++kind) {
      const Replicas replicas = static_cast<Replicas>(kind);
      EXPECT_EQ(mesh.replicas(replicas).size(), eight().replicas(replicas)) << kind;
      EXPECT_EQ(mesh.replicas(replicas).rank(), eight().replica(replicas, world.rank())) << kind;
    }
  });
}

TEST(Mesh, TheTableHasALineARank) {
  EXPECT_EQ(mesh_table({1, 2, 2, 1, 1}),
            "rank   dp   tp  edp   ep  etp\n"
            "   0    0    0    0    0    0\n"
            "   1    0    1    0    1    0\n");
}

TEST(FlatLayout, EveryElementOfABucketHasOneOwnerAmongItsCopies) {
  std::vector<ParameterRecord> records(6);
  for (size_t i = 0; i < records.size(); ++i) {
    records[i].stage = static_cast<int>(i / 3);
    records[i].replicas = static_cast<Replicas>(i % 3);
    records[i].count = 7 + static_cast<int64_t>(i) * 31;
  }
  const FlatLayout layout(records, eight());
  EXPECT_EQ(layout.stages(), 2);
  EXPECT_EQ(layout.buckets().size(), 6u);
  for (size_t b = 0; b < layout.buckets().size(); ++b) {
    const Bucket& bucket = layout.buckets()[b];
    std::vector<int> owners(static_cast<size_t>(bucket.count));
    for (int rank = 0; rank < 8; ++rank) {
      const OwnedPart part = owned_parts(layout, eight(), rank)[b];
      for (int64_t i = 0; i < part.count; ++i) ++owners[static_cast<size_t>(part.flat_begin - bucket.begin + i)];
    }
    // Eight ranks hold 8 / copies different buckets of this kind.
    EXPECT_THAT(owners, testing::Each(8 / eight().replicas(bucket.replicas))) << b;
  }
}

TEST(FlatLayout, GradientsAreAddedToWhereverNoneIsWritten) {
  std::vector<ParameterRecord> records(6);
  for (size_t i = 0; i < records.size(); ++i) {
    records[i].stage = static_cast<int>(i / 3);
    records[i].replicas = i % 3 == 1 ? Replicas::kEdp : Replicas::kDp;
    records[i].gradient_is_written = i % 3 == 1;
    records[i].count = 7 + static_cast<int64_t>(i) * 31;
  }
  const FlatLayout layout(records, eight());
  std::vector<int> ways(static_cast<size_t>(layout.count()));
  for (const FlatRange& range : layout.added_to()) {
    EXPECT_GE(range.begin, layout.stage_begin(range.stage));
    EXPECT_LE(range.begin + range.count, layout.stage_end(range.stage));
    for (int64_t i = 0; i < range.count; ++i) ++ways[static_cast<size_t>(range.begin + i)];
  }
  for (const ParameterRecord& r : records) {
    for (int64_t i = 0; r.gradient_is_written && i < r.count; ++i) ++ways[static_cast<size_t>(r.flat_begin + i)];
  }
  EXPECT_THAT(ways, testing::Each(1));
}

}  // namespace
}  // namespace sluice
