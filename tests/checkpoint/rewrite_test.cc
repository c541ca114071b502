#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "runtime/checkpoint/diff.h"
#include "runtime/checkpoint/reshard.h"
#include "runtime/checkpoint/verify.h"
#include "tests/checkpoint/small_checkpoint.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void expect_good(const std::string& folder, const SmallCheckpoint& model) {
  EXPECT_THAT(verify_checkpoint(folder, [&](const Manifest&) { return model.records; }).problems, IsEmpty());
}

void expect_balanced(const Manifest& manifest, int shards) {
  ASSERT_EQ(manifest.shards_size(), shards);
  std::map<std::string, int64_t> elements;
  for (const ShardFile& shard : manifest.shards()) elements[shard.file()] = 0;
  for (const Piece& piece : manifest.pieces()) elements[piece.file()] += piece.flat_count();
  ASSERT_EQ(elements.size(), static_cast<size_t>(shards));
  int64_t least = std::numeric_limits<int64_t>::max(), most = 0;
  for (const auto& [file, count] : elements) least = std::min(least, count), most = std::max(most, count);
  EXPECT_LE(most - least, 1);
}

TEST(CheckpointReshard, AnyNumberOfShardsIsTheSameCheckpointAndBalanced) {
  const SmallCheckpoint model;
  for (const auto& [tp, dp] : {std::pair{1, 1}, {2, 1}, {1, 3}, {2, 2}, {3, 2}}) {
    const TempFolder folder;
    model.write(folder / "saved", tp, dp);
    for (const int shards : {1, 2, 3, 7}) {
      SCOPED_TRACE(concat("tp ", tp, " dp ", dp, ", ", shards, " shards"));
      const std::string out = folder / std::to_string(shards), back = out + "back";
      expect_balanced(reshard_checkpoint(folder / "saved", out, shards), shards);
      reshard_checkpoint(out, back, tp * dp);
      for (const std::string& made : {out, back}) {
        expect_good(made, model);
        EXPECT_TRUE(diff_checkpoints(folder / "saved", made).equal());
      }
    }
  }
}

TEST(CheckpointReshard, FilesDoNotDependOnWhoWroteTheCheckpoint) {
  const TempFolder folder;
  const SmallCheckpoint model;
  model.write(folder / "one", 1, 1);
  model.write(folder / "six", 3, 2);
  const Manifest from_one = reshard_checkpoint(folder / "one", folder / "from_one", 4);
  const Manifest from_six = reshard_checkpoint(folder / "six", folder / "from_six", 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(from_one.shards(i).xxh3(), from_six.shards(i).xxh3());
  EXPECT_EQ(from_six.world_size(), 6) << "who trained it is not changed";
}

TEST(CheckpointReshard, MoreShardsThanElementsLeavesSomeEmpty) {
  const TempFolder folder;
  const SmallCheckpoint model({{"norm.weight", {7}}});
  model.write(folder / "saved", 1, 1);
  expect_balanced(reshard_checkpoint(folder / "saved", folder / "out", 50), 50);
  expect_good(folder / "out", model);
  EXPECT_TRUE(diff_checkpoints(folder / "saved", folder / "out").equal());
}

TEST(CheckpointReshard, ALargeParameterPassesThroughASmallBuffer) {
  const TempFolder folder;
  const SmallCheckpoint model({{"a.weight", {3, 250'001}}, {"norm.weight", {7}}});
  model.write(folder / "saved", 2, 1);
  const Manifest manifest = reshard_checkpoint(folder / "saved", folder / "out", 2, kChunkBytes);
  const auto large = std::ranges::max(manifest.pieces(), {}, [](const Piece& piece) { return piece.bytes(); });
  EXPECT_EQ(large.chunk_xxh3_size(), 3);
  expect_good(folder / "out", model);
  EXPECT_TRUE(diff_checkpoints(folder / "saved", folder / "out").equal());
}

TEST(CheckpointReshard, ADamagedOrIncompleteCheckpointLeavesNothing) {
  const TempFolder folder;
  const SmallCheckpoint model;
  Manifest manifest = model.write(folder / "saved", 1, 2);
  std::string shard = folder.read("saved/shard-00001-of-00002.safetensors");
  shard.back() ^= 1;
  folder.write("saved/shard-00001-of-00002.safetensors", shard);
  const auto reshard = [&] { reshard_checkpoint(folder / "saved", folder / "out", 3); };
  EXPECT_THAT(error_of(reshard), HasSubstr("does not match its checksum; the file is damaged"));
  EXPECT_FALSE(folder.has("out"));
  model.write(folder / "saved", 1, 2);
  manifest.mutable_pieces()->RemoveLast();
  write_manifest(folder / "saved", manifest);
  EXPECT_THAT(error_of(reshard), HasSubstr("norm.weight: its pieces lack element 3"));
  model.write(folder / "saved", 1, 2);
  folder.write("saved/tokenizer.json", "{}");
  EXPECT_THAT(error_of(reshard), HasSubstr("does not match tokenizer_xxh3"));
  EXPECT_FALSE(folder.has("out"));
}

TEST(CheckpointReshard, AFolderWithFilesAndNoShardsAreRefused) {
  const TempFolder folder;
  SmallCheckpoint().write(folder / "saved", 1, 1);
  std::filesystem::create_directory(folder / "out");
  reshard_checkpoint(folder / "saved", folder / "out", 1);
  EXPECT_THAT(error_of([&] { reshard_checkpoint(folder / "saved", folder / "out", 1); }),
              HasSubstr("is not empty; choose another folder, or empty it"));
  EXPECT_TRUE(folder.has("out/manifest.textproto"));
  for (const int shards : {0, -1, 100'000}) {
    EXPECT_THAT(error_of([&] { reshard_checkpoint(folder / "saved", folder / "none", shards); }),
                HasSubstr("--shards: must be between 1 and 99999"));
  }
  EXPECT_FALSE(folder.has("none"));
}

/// Compares a checkpoint with one that `change` made different.
template <class Change>
CheckpointDifference diff_after(const Change& change) {
  const TempFolder folder;
  SmallCheckpoint model;
  model.write(folder / "a", 2, 1);
  change(model);
  model.write(folder / "b", 1, 2);
  CheckpointDifference difference = diff_checkpoints(folder / "a", folder / "b");
  std::erase_if(difference.tensors, [](const auto& t) { return t.finding == TensorDifference::kEqual; });
  return difference;
}

TEST(CheckpointDiff, TellsTheLargestDifferenceAndWhereItIs) {
  const CheckpointDifference difference = diff_after([](SmallCheckpoint& model) {
    model.values[2][0][4] += 0.25f;
    model.values[2][0][13] -= 0.5f;
  });
  EXPECT_FALSE(difference.equal());
  ASSERT_EQ(difference.tensors.size(), 1u);
  const TensorDifference& v = difference.tensors.front();
  EXPECT_EQ(v.name, "a.weight");
  EXPECT_EQ(v.kind, Piece::V);
  EXPECT_EQ(v.finding, TensorDifference::kDiffers);
  EXPECT_EQ(v.elements, 15);
  EXPECT_EQ(v.differing, 2);
  EXPECT_EQ(v.max_abs_difference, 0.5);
  EXPECT_THAT(v.at, ElementsAre(2, 3));
  EXPECT_EQ(v.a - v.b, 0.5);
  EXPECT_EQ(v.relative, 0.5 / SmallCheckpoint().values[2][0].back());
}

TEST(CheckpointDiff, LayoutsAreNoDifferenceOfTensors) {
  const CheckpointDifference difference = diff_after([](SmallCheckpoint&) {});
  EXPECT_TRUE(difference.equal());
  EXPECT_TRUE(difference.tensors_equal());
}

TEST(CheckpointDiff, ANanDiffersFromAllButItselfAndZerosBySign) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const TempFolder folder;
  SmallCheckpoint a, b;
  a.values[0][2] = {nan, nan, nan, 0.0f, 1, 1, 1};
  b.values[0][2] = {nan, -nan, 1.0f, -0.0f, 1, 1, 1};
  a.write(folder / "a", 1, 1);
  b.write(folder / "b", 1, 1);
  EXPECT_TRUE(diff_checkpoints(folder / "a", folder / "a").equal());
  const CheckpointDifference difference = diff_checkpoints(folder / "a", folder / "b");
  const auto norm = std::ranges::find_if(
      difference.tensors, [](const TensorDifference& t) { return t.finding != TensorDifference::kEqual; });
  ASSERT_NE(norm, difference.tensors.end());
  EXPECT_EQ(norm->differing, 3);
  EXPECT_TRUE(std::isinf(norm->max_abs_difference));
  EXPECT_THAT(norm->at, ElementsAre(1));
}

TEST(CheckpointDiff, OtherParametersAndShapesAreTold) {
  const CheckpointDifference difference = diff_after([](SmallCheckpoint& model) {
    model = SmallCheckpoint({{"a.weight", {5, 3}}, {"b.weight", {2, 2, 2}}, {"c.weight", {1}}});
  });
  std::set<std::pair<std::string, TensorDifference::Finding>> found;
  for (const TensorDifference& tensor : difference.tensors) found.insert({tensor.name, tensor.finding});
  EXPECT_TRUE(found.count({"a.weight", TensorDifference::kOtherShape}));
  EXPECT_TRUE(found.count({"norm.weight", TensorDifference::kOnlyInA}));
  EXPECT_TRUE(found.count({"c.weight", TensorDifference::kOnlyInB}));
}

TEST(CheckpointDiff, WhatElseDiffersIsNamed) {
  const TempFolder folder;
  const SmallCheckpoint model;
  Manifest manifest = model.write(folder / "a", 1, 1);
  manifest.set_config("optimizer { lr: 0.5 }");
  write_manifest(folder / "a", manifest);
  model.write(folder / "b", 1, 1);
  manifest.set_step(9);
  manifest.set_config("optimizer { lr: 0.25 }");
  manifest.set_tokenizer_xxh3("0123456789abcdef");
  write_manifest(folder / "b", manifest);
  const CheckpointDifference difference = diff_checkpoints(folder / "a", folder / "b");
  EXPECT_TRUE(difference.tensors_equal());
  EXPECT_FALSE(difference.equal());
  EXPECT_THAT(difference.others, ElementsAre("config: modified: optimizer.lr: 0.5 -> 0.25", "modified: step: 7 -> 9",
                                             HasSubstr("modified: tokenizer_xxh3: ")));
}

TEST(CheckpointDiff, ADamagedCheckpointIsRefused) {
  const TempFolder folder;
  const SmallCheckpoint model;
  model.write(folder / "a", 1, 1);
  std::string shard = folder.read("a/shard-00000-of-00001.safetensors");
  shard.back() ^= 1;
  folder.write("a/shard-00000-of-00001.safetensors", shard);
  EXPECT_THAT(error_of([&] { diff_checkpoints(folder / "a", folder / "a"); }), HasSubstr("the file is damaged"));
}

}  // namespace
}  // namespace sluice
