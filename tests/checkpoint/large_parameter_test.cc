#include <cstring>
#include <numeric>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "tests/checkpoint/records.h"
#include "tests/checkpoint/write_shard.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

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

TEST_F(LargeParameter, OfAnotherNumberOfChunksIsRefused) {
  manifest_.mutable_pieces(0)->add_chunk_xxh3("0");
  write_manifest(folder_ / "", manifest_);
  EXPECT_THAT(error_of([&] { read(0, 1); }), HasSubstr("has 4 chunk_xxh3, expected 3"));
  manifest_.mutable_pieces(0)->clear_chunk_xxh3();
  write_manifest(folder_ / "", manifest_);
  EXPECT_THAT(error_of([&] { read(0, 1); }), HasSubstr("has 0 chunk_xxh3, expected 3"));
}

TEST_F(LargeParameter, OfANameThatIsNotTextIsRefused) {
  const std::string bad = "w\xf4";
  Manifest of_parameter = manifest_, of_tensor = manifest_;
  of_parameter.mutable_pieces(0)->set_name(bad);
  of_tensor.mutable_pieces(0)->set_tensor(bad);
  for (const Manifest& manifest : {of_parameter, of_tensor}) {
    write_manifest(folder_ / "", manifest);
    EXPECT_THAT(error_of([&] { read_manifest(folder_ / ""); }), HasSubstr("a name of a piece is not UTF-8"));
  }
}

TEST_F(LargeParameter, IsGivenUpWhenThatIsAskedFor) {
  Arena staging("staging", MemorySource::kHugePages, int64_t{64} << 20);
  const Tensor all = view(values_);
  ShardSnapshot snapshot({{&record_, 0, kCount, all, all, all}}, staging);
  snapshot.borrow();
  std::stop_source stop;
  stop.request_stop();
  const TempFolder other;
  EXPECT_THAT(error_of([&] { snapshot.write(other / "", kShard, stop.get_token()); }), HasSubstr("given up"));
  EXPECT_TRUE(std::filesystem::is_empty(other / ""));
}

}  // namespace
}  // namespace sluice
