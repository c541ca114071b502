#include <cstring>
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

/// Elements [begin, end) of what boxes of a parameter hold.
std::vector<float> elements_of(const ParameterRecord& r, const std::vector<float>& whole, int64_t begin, int64_t end) {
  std::vector<float> held;
  for_each_run(r.global_shape, r.boxes, [&](int64_t place, int64_t count) {
    held.insert(held.end(), whole.begin() + place, whole.begin() + place + count);
  });
  return {held.begin() + begin, held.begin() + end};
}

ParameterRecord in_boxes(const std::string& name, const std::vector<int64_t>& shape, const std::vector<Box>& boxes) {
  ParameterRecord r = record(name, shape, 0);
  r.boxes = boxes;
  r.count = 0;
  for (const Box& box : boxes) r.count += box.count();
  return r;
}

/// Columns, rows, both back to back, and not in order.
std::vector<ParameterRecord> parts_of_a() {
  const Box columns{{0, 1}, {3, 3}}, last_row{{2, 3}, {3, 5}}, first_row{{0, 3}, {1, 5}};
  return {in_boxes("a.weight", {3, 5}, {columns}), in_boxes("a.weight", {3, 5}, {{{1, 0}, {2, 5}}}),
          in_boxes("a.weight", {3, 5}, {first_row, columns}), in_boxes("a.weight", {3, 5}, {last_row, columns})};
}

/// Reads every range of elements of every part of a.weight.
void expect_parts(const std::string& folder, Model& model) {
  CheckpointReader reader(folder);
  for (const ParameterRecord& part : parts_of_a()) {
    for (int64_t begin = 0; begin <= part.count; ++begin) {
      for (int64_t end = begin; end <= part.count; ++end) {
        std::vector<float> got(static_cast<size_t>(end - begin), -1);
        reader.read(part, Piece::V, begin, end, view(got));
        EXPECT_EQ(got, elements_of(part, model.v, begin, end)) << begin << ".." << end;
      }
    }
  }
}

TEST(Checkpoint, AnyPartOfAParameterIsReadWhateverNumberOfRanksWroteIt) {
  for (const int world_size : {1, 2, 3, 8}) {
    const TempFolder folder;
    Model model;
    write_checkpoint(folder / "", model, world_size);
    expect_parts(folder / "", model);
  }
}

TEST(Checkpoint, AnyPartOfAParameterIsReadFromRanksThatHeldBoxes) {
  const TempFolder folder;
  Model model;
  const std::vector<ParameterRecord> held = {in_boxes("a.weight", {3, 5}, {{{0, 0}, {3, 2}}}),
                                             in_boxes("a.weight", {3, 5}, {{{1, 2}, {3, 5}}, {{0, 2}, {1, 5}}})};
  Manifest manifest;
  for (int rank = 0; rank < 4; ++rank) {
    const ParameterRecord& r = held[static_cast<size_t>(rank / 2)];
    const int64_t begin = part_begin(r.count, rank % 2, 2), end = part_begin(r.count, rank % 2 + 1, 2);
    std::vector<float> master = elements_of(r, model.master, begin, end), m = elements_of(r, model.m, begin, end),
                       v = elements_of(r, model.v, begin, end);
    manifest.MergeFrom(write_shard(folder / "", rank, 4, {{&r, begin, end, view(master), view(m), view(v)}}));
  }
  write_manifest(folder / "", manifest);
  expect_parts(folder / "", model);
}

/// Writes ranges of a.weight, one a rank.
void write_ranges(const std::string& folder, Model& model, const std::vector<std::pair<int64_t, int64_t>>& ranges) {
  Manifest manifest;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const auto [begin, end] = ranges[i];
    const auto part = [begin = begin, count = end - begin](std::vector<float>& v) {
      return view(v).rows(begin, count);
    };
    manifest.MergeFrom(
        write_shard(folder, static_cast<int>(i), static_cast<int>(ranges.size()),
                    {{&model.records[0], begin, end, part(model.master), part(model.m), part(model.v)}}));
  }
  write_manifest(folder, manifest);
}

TEST(Checkpoint, GapsAndOverlapsOfWhatIsReadAreRefused) {
  Model model;
  std::vector<float> got(15);
  const auto read = [&](const std::string& folder, int64_t begin, int64_t end) {
    CheckpointReader(folder).read(model.records[0], Piece::M, begin, end, view(got).rows(begin, end - begin));
  };
  const TempFolder gap, overlap, cut;
  write_ranges(gap / "", model, {{0, 4}, {6, 15}});
  EXPECT_THAT(error_of([&] { read(gap / "", 0, 15); }), HasSubstr("a.weight: its pieces lack element 4"));
  read(gap / "", 6, 15);
  write_ranges(overlap / "", model, {{0, 8}, {6, 15}});
  EXPECT_THAT(error_of([&] { read(overlap / "", 2, 9); }), HasSubstr("a.weight: its pieces overlap at element 6"));
  read(overlap / "", 0, 6);
  write_ranges(cut / "", model, {{0, 14}});
  EXPECT_THAT(error_of([&] { read(cut / "", 13, 15); }), HasSubstr("a.weight: its pieces lack element 14"));
}

/// A parameter of more than two chunks, as one rank writes it.
class LargeParameter : public testing::Test {
 protected:
  static constexpr int64_t kChunk = kChunkBytes / 4, kCount = 2 * kChunk + 1000;

  LargeParameter() {
    std::iota(values_.begin(), values_.end(), 0.0f);
    const Tensor all = view(values_);
    manifest_ = write_shard(folder_ / "", 0, 1, {{&record_, 0, kCount, all, all, all}});
    write_manifest(folder_ / "", manifest_);
  }
  /// Changes a bit of an element of the weights, which come first.
  void damage(int64_t element) {
    std::string bytes = folder_.read(kShard);
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof header);
    bytes[8 + header + static_cast<size_t>(4 * element)] ^= 1;
    folder_.write(kShard, bytes);
  }
  void read(int64_t begin, int64_t end) {
    std::vector<float> got(static_cast<size_t>(end - begin));
    CheckpointReader(folder_ / "").read(record_, Piece::MASTER, begin, end, view(got));
    EXPECT_TRUE(std::equal(got.begin(), got.end(), values_.begin() + begin));
  }

  static constexpr const char* kShard = "shard-00000-of-00001.safetensors";
  const TempFolder folder_;
  const ParameterRecord record_ = record("large.weight", {2, kCount / 2}, 0);
  std::vector<float> values_ = std::vector<float>(kCount);
  Manifest manifest_;
};

TEST_F(LargeParameter, DamageIsSeenInTheChunksThatAreReadAndInNoOthers) {
  EXPECT_EQ(manifest_.pieces(0).chunk_xxh3_size(), 3);
  damage(kChunk + 5);
  read(0, kChunk);
  read(2 * kChunk, kCount);
  for (const auto& [begin, end] :
       {std::pair{kChunk - 1, kChunk + 1}, {2 * kChunk - 1, 2 * kChunk}, {int64_t{0}, kCount}}) {
    EXPECT_THAT(error_of([&, begin = begin, end = end] { read(begin, end); }),
                HasSubstr("does not match its checksum; the file is damaged"));
  }
  damage(kChunk + 5);
  read(0, kCount);
}

TEST_F(LargeParameter, WithoutChecksumsOfItsChunksIsVerifiedAsAWhole) {
  for (Piece& piece : *manifest_.mutable_pieces()) piece.clear_chunk_xxh3();
  write_manifest(folder_ / "", manifest_);
  read(5, kChunk);
  damage(kCount - 1);
  EXPECT_THAT(error_of([&] { read(5, kChunk); }), HasSubstr("does not match its checksum"));
}

TEST_F(LargeParameter, OfAnotherNumberOfChunksIsRefused) {
  manifest_.mutable_pieces(0)->add_chunk_xxh3("0");
  write_manifest(folder_ / "", manifest_);
  EXPECT_THAT(error_of([&] { read(0, 1); }), HasSubstr("has 4 chunk_xxh3, expected 3"));
}

TEST(Checkpoint, MomentsRememberTheStepsUnlessTheManifestSaysMore) {
  const TempFolder folder;
  Manifest manifest;
  manifest.set_step(7);
  EXPECT_EQ(moment_updates(manifest), 7);
  manifest.set_moment_updates(12);
  EXPECT_EQ(moment_updates(manifest), 12);
  manifest.set_moment_updates(6);
  write_manifest(folder / "", manifest);
  EXPECT_THAT(error_of([&] { read_manifest(folder / ""); }), HasSubstr("step=7 and moment_updates=6"));
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
