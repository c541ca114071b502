#include "runtime/data/indexed_dataset.h"

#include <cstring>
#include <random>
#include <vector>

#include "runtime/data/indexed_writer.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

using Documents = std::vector<std::vector<int32_t>>;

std::string write_set(const TempFolder& folder, const Documents& documents, int64_t vocab) {
  IndexedWriter writer(folder / "set", vocab);
  for (const auto& document : documents) writer.add(document);
  writer.finish();
  return folder / "set";
}

std::vector<int32_t> read_all(const IndexedDataset& set, int64_t vocab) {
  std::vector<int32_t> ids(static_cast<size_t>(set.tokens()));
  set.read(0, set.tokens(), vocab, ids.data());
  return ids;
}

template <class T>
void overwrite(std::string& bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

// Opens the set after `damage` has changed the bytes of its index.
template <class F>
std::string error_with_index(const F& damage) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, {{1, 2, 3}, {4, 5}, {6}}, 100);
  std::string index = folder.read("set.idx");
  damage(index);
  folder.write("set.idx", index);
  const std::string message = error_of([&] { IndexedDataset set(prefix); });
  EXPECT_THAT(message, HasSubstr("set.idx: "));
  return message;
}

constexpr size_t kLengths = 34, kOffsets = kLengths + 3 * 4, kBoundaries = kOffsets + 3 * 8;

TEST(IndexedDataset, RoundTripKeepsTokensAndDocuments) {
  for (const int64_t vocab : {65499, 65500}) {
    const TempFolder folder;
    const IndexedDataset set(write_set(folder, {{1, 2, 65498}, {}, {4}}, vocab));
    EXPECT_EQ(set.token_bytes(), vocab < 65500 ? 2 : 4);
    EXPECT_EQ(set.documents(), 3);
    EXPECT_EQ(set.document_start(2), 3);
    EXPECT_EQ(set.document_start(3), 4);
    EXPECT_EQ(read_all(set, vocab), (std::vector<int32_t>{1, 2, 65498, 4}));
  }
}

TEST(IndexedDataset, FindsTheDocumentOfAToken) {
  const TempFolder folder;
  const IndexedDataset set(write_set(folder, {{1, 2}, {}, {3}, {4, 5}}, 100));
  const std::vector<int64_t> expected = {0, 0, 2, 3, 3};
  for (int64_t t = 0; t < set.tokens(); ++t) EXPECT_EQ(set.document_of(t), expected[static_cast<size_t>(t)]);
}

TEST(IndexedDataset, ReadsTheLayoutOfMegatron) {
  const TempFolder folder;
  write_set(folder, {{7, 8}}, 100);
  std::string expected("MMIDIDX\0\0\1\0\0\0\0\0\0\0\x08\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0", 34);
  expected +=
      std::string("\2\0\0\0", 4) + std::string(8, '\0') + std::string(8, '\0') + std::string("\1\0\0\0\0\0\0\0", 8);
  EXPECT_EQ(folder.read("set.idx"), expected);
  EXPECT_EQ(folder.read("set.bin"), std::string("\7\0\x08\0", 4));
}

TEST(IndexedDataset, ADocumentMayHaveSeveralSequencesOrNone) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, {{1, 2, 3}, {4, 5}, {6}}, 100);
  std::string index = folder.read("set.idx");
  overwrite(index, kBoundaries + 8, int64_t{2});
  folder.write("set.idx", index);
  const IndexedDataset set(prefix);
  EXPECT_EQ(set.document_start(1), 5);
  EXPECT_EQ(set.document_start(2), 5);
  EXPECT_EQ(set.document_of(4), 0);
  EXPECT_EQ(set.document_of(5), 2);
}

TEST(IndexedDataset, MissingFilesAreNamed) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { IndexedDataset set(folder / "none"); }), HasSubstr("none.idx: cannot open"));
  folder.write("half.idx", "x");
  EXPECT_THAT(error_of([&] { IndexedDataset set(folder / "half"); }), HasSubstr("half.bin: cannot open"));
}

TEST(IndexedDataset, DamagedHeadersAreRefused) {
  EXPECT_THAT(error_with_index([](std::string& b) { b[0] = 'X'; }), HasSubstr("magic"));
  EXPECT_THAT(error_with_index([](std::string& b) { b[9] = 2; }), HasSubstr("version: expected 1, got 2"));
  EXPECT_THAT(error_with_index([](std::string& b) { b[17] = 5; }), HasSubstr("dtype"));
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, 18, uint64_t{1} << 62); }), HasSubstr("counts"));
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, 26, ~uint64_t{0}); }), HasSubstr("counts"));
}

TEST(IndexedDataset, AnIndexCutOffAnywhereIsRefused) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, {{1, 2, 3}, {4, 5}, {6}}, 100);
  const std::string index = folder.read("set.idx");
  for (size_t size = 0; size < index.size(); ++size) {
    folder.write("set.idx", index.substr(0, size));
    EXPECT_THAT(error_of([&] { IndexedDataset set(prefix); }), HasSubstr("set.idx: "));
  }
}

TEST(IndexedDataset, LengthsAndOffsetsMustAddUp) {
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, kLengths, int32_t{-3}); }), HasSubstr("length[0]"));
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, kLengths, int32_t{2}); }),
              HasSubstr("byte_offset[1]"));
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, kLengths + 8, int32_t{0}); }),
              HasSubstr("add up to 10"));
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, kOffsets + 8, int64_t{1} << 40); }),
              HasSubstr("byte_offset[1]: expected 6"));
}

TEST(IndexedDataset, DocumentBoundariesMustAscend) {
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, kBoundaries, int64_t{1}); }),
              HasSubstr("doc_index[0]"));
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, kBoundaries + 16, int64_t{0}); }),
              HasSubstr("doc_index[2]: expected 1..3, got 0"));
  EXPECT_THAT(error_with_index([](std::string& b) { overwrite(b, kBoundaries + 24, int64_t{2}); }),
              HasSubstr("doc_index ends at sequence 2, expected 3"));
}

TEST(IndexedDataset, ATruncatedBinIsRefused) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, {{1, 2, 3}, {4, 5}}, 100);
  folder.write("set.bin", folder.read("set.bin").substr(0, 7));
  EXPECT_THAT(error_of([&] { IndexedDataset set(prefix); }), HasSubstr("set.bin: sequence 1 ends at byte 10"));
}

TEST(IndexedDataset, ATokenBeyondTheVocabularyIsNamed) {
  const TempFolder folder;
  const IndexedDataset set(write_set(folder, {{1, 2, 3}, {4, 5, 70}}, 100));
  EXPECT_THAT(error_of([&] { read_all(set, 70); }),
              HasSubstr("set.bin: document 1, position 2: token id 70 is not in the vocabulary of 70"));
  EXPECT_EQ(read_all(set, 71).back(), 70);
}

TEST(IndexedDataset, ANegativeTokenIsRefused) {
  const TempFolder folder;
  const IndexedDataset set(write_set(folder, {{1, -5}}, 100000));
  EXPECT_THAT(error_of([&] { read_all(set, 100000); }), HasSubstr("token id -5"));
}

TEST(IndexedDataset, RandomDamageIsRefusedOrHarmless) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, {{1, 2, 3}, {4, 5}, {6}}, 100);
  const std::string index = folder.read("set.idx");
  std::mt19937 random(1);
  for (int i = 0; i < 500; ++i) {
    std::string damaged = index;
    for (int flips = 0; flips < 3; ++flips) damaged[random() % damaged.size()] = static_cast<char>(random());
    folder.write("set.idx", damaged);
    try {
      const IndexedDataset set(prefix);
      read_all(set, 100);
      for (int64_t t = 0; t < set.tokens(); ++t) EXPECT_LT(set.document_of(t), set.documents());
    } catch (const Error& e) {
      EXPECT_EQ(e.fault(), Fault::kUser) << e.what();
    }
  }
}

TEST(IndexedWriter, LeavesNothingBehindWhenNotFinished) {
  const TempFolder folder;
  {
    IndexedWriter writer(folder / "set", 100);
    writer.add(std::vector<int32_t>{1, 2});
  }
  EXPECT_FALSE(folder.has("set.bin") || folder.has("set.bin.tmp") || folder.has("set.idx.tmp"));
}

TEST(IndexedWriter, AnUnwritableFolderIsNamed) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { IndexedWriter writer(folder / "missing/set", 100); }),
              HasSubstr("missing/set.bin.tmp: cannot write: No such file"));
}

}  // namespace
}  // namespace sluice
