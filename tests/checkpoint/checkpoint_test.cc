#include <cstring>
#include <numeric>

#include "parallel/combine.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/checkpoint/verify.h"
#include "tests/checkpoint/records.h"
#include "tests/checkpoint/write_shard.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

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
  EXPECT_THAT(verify_checkpoint(folder, [&](const Manifest&) { return model.records; }).problems, testing::IsEmpty());
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

TEST(Checkpoint, AShardThatIsAFolderIsDamage) {
  const TempFolder folder;
  Model model;
  write_checkpoint(folder / "", model, 1);
  std::filesystem::remove(folder / "shard-00000-of-00001.safetensors");
  std::filesystem::create_directory(folder / "shard-00000-of-00001.safetensors");
  try {
    read_manifest(folder / "");
    ADD_FAILURE() << "it was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kDamage) << error.what();
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

/// Reads all there is, as a run that goes on does.
void read_all(const std::string& folder, const Model& model) {
  CheckpointReader reader(folder);
  std::vector<float> got(48);
  for (const Piece::Kind kind : {Piece::MASTER, Piece::M, Piece::V}) {
    for (const ParameterRecord& r : model.records) reader.read(r, kind, view(got));
  }
}

TEST(Checkpoint, OneChangedByteAnywhereIsDetectedWhenItIsRead) {
  const TempFolder folder;
  Model model;
  write_checkpoint(folder / "", model, 1);
  for (const char* name : {"manifest.textproto", "shard-00000-of-00001.safetensors"}) {
    const std::string good = folder.read(name);
    std::fstream file(folder / name, std::ios::in | std::ios::out | std::ios::binary);
    const auto put = [&](size_t i, char byte) {
      file.seekp(static_cast<std::streamoff>(i));
      file.put(byte).flush();
    };
    for (size_t i = 0; i < good.size(); ++i) {
      put(i, static_cast<char>(good[i] ^ 1));
      EXPECT_THROW(read_all(folder / "", model), Error) << name << " byte " << i;
      put(i, good[i]);
    }
  }
  read_all(folder / "", model);
}

TEST(ShardWriter, HasTheChecksumsThatReadingPartsNeeds) {
  const TempFolder folder;
  std::vector<ParameterRecord> records(3);
  const std::vector<std::vector<int64_t>> shapes = {{3}, {5, 131072}, {kChunkBytes / 4}};
  int64_t total = 0;
  for (size_t i = 0; i < 3; ++i) {
    records[i].name = concat("p", i);
    records[i].global_shape = shapes[i];
    records[i].boxes = {{std::vector<int64_t>(shapes[i].size(), 0), shapes[i]}};
    total += records[i].count = records[i].global_count();
  }
  std::vector<float> values(static_cast<size_t>(total));
  std::iota(values.begin(), values.end(), 0.5f);
  ShardWriter shard(folder / "", shard_file_name(0, 1), weight_pieces(records, DType::kF32));
  const char* bytes = reinterpret_cast<const char*>(values.data());
  const size_t all = values.size() * sizeof(float), portion = 100'003;
  for (size_t at = 0; at < all; at += portion) shard.write(bytes + at, std::min(portion, all - at));
  Manifest manifest = shard.finish();
  EXPECT_EQ(manifest.pieces(0).chunk_xxh3_size(), 0);
  EXPECT_EQ(manifest.pieces(1).chunk_xxh3_size(), 3);
  EXPECT_EQ(manifest.pieces(2).chunk_xxh3_size(), 0) << "one chunk is all of it";
  EXPECT_EQ(manifest.pieces(2).xxh3(), hex16(xxh3({bytes + all - kChunkBytes, kChunkBytes})));
  write_manifest(folder / "", manifest);
  EXPECT_THAT(verify_checkpoint(folder / "", [&](const Manifest&) { return records; }).problems, testing::IsEmpty());
  CheckpointReader reader(folder / "");
  for (int64_t i = 0, at = 0; i < 3; at += records[static_cast<size_t>(i++)].count) {
    const ParameterRecord& r = records[static_cast<size_t>(i)];
    std::vector<float> got(static_cast<size_t>(r.count - 1));
    reader.read(r, Piece::MASTER, 1, r.count, {got.data(), DType::kF32, Device::kCpu, {r.count - 1}});
    EXPECT_TRUE(std::equal(got.begin(), got.end(), values.begin() + at + 1));
  }
}

}  // namespace
}  // namespace sluice
