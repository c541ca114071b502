#include "runtime/checkpoint/verify.h"

#include <algorithm>

#include "tests/checkpoint/small_checkpoint.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CheckpointVerification verify(const std::string& folder, const SmallCheckpoint& model) {
  return verify_checkpoint(folder, [&](const Manifest&) { return model.records; });
}

/// Changes a file in place: a file system takes longer to write it anew.
void put_byte(const std::string& path, size_t at, char byte) {
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(static_cast<std::streamoff>(at)).put(byte);
}

TEST(CheckpointVerify, TellsWhatItChecked) {
  const TempFolder folder;
  const SmallCheckpoint model;
  const Manifest manifest = model.write(folder / "step", 2, 2);
  folder.write("step/notes.txt", "does not matter");
  const CheckpointVerification result = verify(folder / "step", model);
  EXPECT_THAT(result.problems, IsEmpty());
  EXPECT_EQ(result.files, 6);
  EXPECT_EQ(result.pieces, manifest.pieces_size());
  size_t bytes = folder.read("step/manifest.textproto").size() + folder.read("step/tokenizer.json").size();
  for (const ShardFile& shard : manifest.shards()) bytes += static_cast<size_t>(shard.bytes());
  EXPECT_EQ(result.bytes, static_cast<int64_t>(bytes));
}

TEST(CheckpointVerify, FindsOneFlippedBitInAnyByteOfAnyFile) {
  const TempFolder folder;
  const SmallCheckpoint model({{"a.weight", {3, 5}}, {"norm.weight", {7}}});
  std::vector<std::string> files = {"manifest.textproto", "tokenizer.json"};
  const Manifest manifest = model.write(folder / "", 2, 1);
  for (const ShardFile& shard : manifest.shards()) files.push_back(shard.file());
  for (const std::string& file : files) {
    const std::string good = folder.read(file);
    for (size_t i = 0; i < good.size(); ++i) {
      put_byte(folder / file, i, static_cast<char>(good[i] ^ 1 << i % 8));
      const CheckpointVerification result = verify(folder / "", model);
      ASSERT_FALSE(result.problems.empty()) << file << " byte " << i;
      EXPECT_THAT(result.problems.front(), HasSubstr(file)) << "byte " << i;
      put_byte(folder / file, i, good[i]);
    }
  }
  EXPECT_THAT(verify(folder / "", model).problems, IsEmpty());
}

TEST(CheckpointVerify, TellsEveryProblem) {
  const TempFolder folder;
  const SmallCheckpoint model;
  model.write(folder / "", 1, 3);
  std::string damaged = folder.read("shard-00000-of-00003.safetensors");
  damaged.back() ^= 4;
  folder.write("shard-00000-of-00003.safetensors", damaged);
  folder.write("shard-00001-of-00003.safetensors", damaged + "more");
  std::filesystem::remove(folder / "shard-00002-of-00003.safetensors");
  folder.write("tokenizer.json", "{}");
  EXPECT_THAT(verify(folder / "", model).problems,
              ElementsAre(HasSubstr("shard-00000-of-00003.safetensors: tensor \"norm.weight.v[0,0:2]\" does not match"),
                          HasSubstr("shard-00000-of-00003.safetensors: does not match its checksum"),
                          HasSubstr("shard-00001-of-00003.safetensors: has "),
                          HasSubstr("shard-00002-of-00003.safetensors: is missing"),
                          HasSubstr("tokenizer.json: does not match tokenizer_xxh3")));
}

TEST(CheckpointVerify, AMissingManifestAndTokenizerAreNamed) {
  const TempFolder folder;
  const SmallCheckpoint model;
  EXPECT_THAT(error_of([&] { verify(folder / "", model); }), HasSubstr("there is no manifest.textproto"));
  EXPECT_THAT(error_of([&] { verify(folder / "none", model); }), HasSubstr("none: there is no such folder"));
  model.write(folder / "", 1, 1);
  std::filesystem::remove(folder / "tokenizer.json");
  EXPECT_THAT(verify(folder / "", model).problems, ElementsAre(HasSubstr("tokenizer.json: is missing")));
}

/// What verify says of a manifest that `change` changed and whose own hash is right.
template <class Change>
std::vector<std::string> problems_after(const Change& change) {
  const TempFolder folder;
  const SmallCheckpoint model;
  Manifest manifest = model.write(folder / "", 1, 2);
  change(manifest);
  write_manifest(folder / "", manifest);
  return verify(folder / "", model).problems;
}

template <class Which>
void remove_pieces(Manifest& manifest, const Which& which) {
  const auto kept = std::remove_if(manifest.mutable_pieces()->begin(), manifest.mutable_pieces()->end(), which);
  manifest.mutable_pieces()->erase(kept, manifest.mutable_pieces()->end());
}

TEST(CheckpointVerify, EveryElementMustBeStoredOnce) {
  const auto first_of_a = [](Manifest& manifest) -> Piece& {
    return *std::ranges::find(*manifest.mutable_pieces(), "a.weight[0,0,0:7]", &Piece::tensor);
  };
  EXPECT_THAT(problems_after([&](Manifest& m) { first_of_a(m).set_flat_begin(1); }),
              ElementsAre(HasSubstr("manifest.textproto: MASTER of a.weight: its pieces lack element 0")));
  EXPECT_THAT(problems_after([&](Manifest& m) { first_of_a(m).set_kind(Piece::M); }),
              ElementsAre(HasSubstr("MASTER of a.weight: its pieces hold 8 elements of 15"),
                          HasSubstr("M of a.weight: its pieces hold 22 elements of 15")));
  EXPECT_THAT(problems_after([](Manifest& m) {
                remove_pieces(m, [](const Piece& p) { return p.name() == "norm.weight" && p.kind() == Piece::V; });
              }),
              ElementsAre(HasSubstr("V of norm.weight: is missing")));
  EXPECT_THAT(
      problems_after([](Manifest& m) { remove_pieces(m, [](const Piece& p) { return p.kind() != Piece::MASTER; }); }),
      IsEmpty())
      << "moments of none are well";
}

TEST(CheckpointVerify, WhatManifestShardsAndModelSayMustAgree) {
  const auto first = [](Manifest& manifest) -> Piece& { return *manifest.mutable_pieces(0); };
  EXPECT_THAT(problems_after([&](Manifest& m) { first(m).set_tensor("other"); }),
              ElementsAre(HasSubstr("there is no tensor \"other\"")));
  EXPECT_THAT(problems_after([&](Manifest& m) { first(m).set_xxh3("0123456789abcdef"); }),
              ElementsAre(HasSubstr("does not match its xxh3")));
  EXPECT_THAT(problems_after([](Manifest& m) { m.mutable_shards()->DeleteSubrange(1, 1); }),
              testing::Contains(HasSubstr("shard-00001-of-00002.safetensors is not among the shards")));
  EXPECT_THAT(problems_after([](Manifest& m) {
                for (Piece& piece : *m.mutable_pieces()) {
                  if (piece.name() == "norm.weight") piece.set_name("other.weight");
                }
              }),
              testing::Contains(HasSubstr("MASTER of other.weight: the model has no such parameter")));
}

}  // namespace
}  // namespace sluice
