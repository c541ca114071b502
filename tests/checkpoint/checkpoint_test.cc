#include <numeric>

#include "parallel/combine.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/checkpoint/shard_writer.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

Tensor view(std::vector<float>& values) {
  return {values.data(), DType::kF32, Device::kCpu, {static_cast<int64_t>(values.size())}};
}

ParameterRecord record(const std::string& name, const std::vector<int64_t>& shape, int64_t flat_begin) {
  ParameterRecord r;
  r.name = name;
  r.global_shape = shape;
  r.boxes = {{std::vector<int64_t>(shape.size(), 0), shape}};
  r.count = r.global_count();
  r.flat_begin = flat_begin;
  return r;
}

/// Three small parameters and what a run holds of them.
struct Model {
  std::vector<ParameterRecord> records = {record("a.weight", {3, 5}, 0), record("b.weight", {2, 2, 2}, 16),
                                          record("norm.weight", {7}, 32)};
  std::vector<float> master = std::vector<float>(48), m = master, v = master;

  Model() {
    std::iota(master.begin(), master.end(), 0.25f);
    std::iota(m.begin(), m.end(), 100.5f);
    std::iota(v.begin(), v.end(), 1000.75f);
  }
  /// Part `writer` of `writers` of every parameter.
  std::vector<OwnedElements> owned(int writer, int writers) {
    std::vector<OwnedElements> owned;
    for (const ParameterRecord& r : records) {
      const int64_t begin = part_begin(r.count, writer, writers), end = part_begin(r.count, writer + 1, writers);
      const auto part = [&](std::vector<float>& values) {
        return view(values).rows(r.flat_begin + begin, end - begin);
      };
      if (begin < end) owned.push_back({&r, begin, end, part(master), part(m), part(v)});
    }
    return owned;
  }
};

void write_checkpoint(const std::string& folder, Model& model, int world_size) {
  Manifest manifest;
  manifest.set_step(7);
  for (int rank = 0; rank < world_size; ++rank) {
    manifest.MergeFrom(write_shard(folder, rank, world_size, model.owned(rank, world_size)));
  }
  write_manifest(folder, manifest);
}

/// Reads everything and compares it; throws what the reader throws.
void expect_equal(const std::string& folder, Model& model) {
  CheckpointReader reader(folder);
  EXPECT_EQ(reader.manifest().step(), 7);
  const std::pair<Piece::Kind, std::vector<float>*> kinds[] = {
      {Piece::MASTER, &model.master}, {Piece::M, &model.m}, {Piece::V, &model.v}};
  for (const auto& [kind, want] : kinds) {
    std::vector<float> got(48, -1);
    for (const ParameterRecord& r : model.records) reader.read(r, kind, view(got));
    for (const ParameterRecord& r : model.records) {
      EXPECT_TRUE(
          std::equal(got.begin() + r.flat_begin, got.begin() + r.flat_begin + r.count, want->begin() + r.flat_begin))
          << r.name;
    }
    EXPECT_EQ(got[15], -1) << "padding was written";
  }
  reader.verify_shards();
}

TEST(Checkpoint, IsReadBackWhateverNumberOfRanksWroteIt) {
  for (const int world_size : {1, 2, 3, 8}) {
    const TempFolder folder;
    Model model;
    write_checkpoint(folder / "", model, world_size);
    expect_equal(folder / "", model);
  }
}

TEST(Checkpoint, F32IsReadIntoF64) {
  const TempFolder folder;
  Model model;
  write_checkpoint(folder / "", model, 2);
  std::vector<double> got(48);
  CheckpointReader reader(folder / "");
  reader.read(model.records[0], Piece::MASTER, {got.data(), DType::kF64, Device::kCpu, {48}});
  EXPECT_EQ(got[14], 14.25);
}

TEST(Checkpoint, WithoutAManifestItDoesNotExist) {
  const TempFolder folder;
  Model model;
  write_shard(folder / "", 0, 1, model.owned(0, 1));
  EXPECT_THAT(error_of([&] { CheckpointReader reader(folder / ""); }), HasSubstr("not a checkpoint"));
}

TEST(Checkpoint, AMissingShardAndAnotherShapeAreNamed) {
  const TempFolder folder;
  Model model;
  write_checkpoint(folder / "", model, 2);
  CheckpointReader reader(folder / "");
  std::vector<float> got(64);
  EXPECT_THAT(error_of([&] {
                reader.read(record("a.weight", {5, 3}, 0), Piece::MASTER, view(got));
              }),
              HasSubstr("another shape"));
  EXPECT_THAT(error_of([&] {
                reader.read(record("c.weight", {5, 3}, 0), Piece::M, view(got));
              }),
              HasSubstr("c.weight"));
  std::filesystem::remove(folder / "shard-00001-of-00002.safetensors");
  EXPECT_THAT(error_of([&] { CheckpointReader again(folder / ""); }), HasSubstr("shard-00001-of-00002.safetensors"));
}

TEST(Checkpoint, PiecesOfNoParameterAreRefused) {
  const TempFolder folder;
  Model model;
  write_checkpoint(folder / "", model, 2);
  const CheckpointReader reader(folder / "");
  reader.check_parameters(model.records);
  model.records.pop_back();
  EXPECT_THAT(error_of([&] { reader.check_parameters(model.records); }),
              HasSubstr("holds norm.weight, which this model lacks"));
}

TEST(Checkpoint, OneChangedByteAnywhereIsDetected) {
  const TempFolder folder;
  Model model;
  write_checkpoint(folder / "", model, 1);
  for (const char* name : {"manifest.textproto", "shard-00000-of-00001.safetensors"}) {
    const std::string good = folder.read(name);
    for (size_t i = 0; i < good.size(); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 1);
      folder.write(name, bad);
      EXPECT_THROW(expect_equal(folder / "", model), Error) << name << " byte " << i;
    }
    folder.write(name, good);
  }
  expect_equal(folder / "", model);
}

}  // namespace
}  // namespace sluice
