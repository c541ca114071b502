#include "runtime/data/data_build.h"

#include <numeric>
#include <random>
#include <set>

#include <zlib.h>
#include <zstd.h>

#include "runtime/data/corpus.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/tokenizer.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> documents_of(const std::string& prefix, const Tokenizer& tokenizer) {
  const IndexedDataset set(prefix);
  std::vector<std::string> texts;
  for (int64_t d = 0; d < set.documents(); ++d) {
    std::vector<int32_t> ids(static_cast<size_t>(set.document_start(d + 1) - set.document_start(d)));
    set.read(set.document_start(d), static_cast<int64_t>(ids.size()), tokenizer.vocab_size(), ids.data());
    EXPECT_EQ(ids.back(), tokenizer.eod());
    ids.pop_back();
    texts.push_back(tokenizer.decode(ids));
  }
  return texts;
}

std::string gzip(const std::string& text, const TempFolder& folder, const char* name) {
  gzFile file = gzopen((folder / name).c_str(), "wb");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  gzclose(file);
  return folder / name;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::vector<std::string> read_corpus(const std::vector<std::string>& paths) {
  CorpusReader reader(paths);
  std::vector<std::string> texts;
  for (Document document; reader.next(document);) texts.push_back(document.text);
  return texts;
}

TEST(Corpus, ReadsPlainAndCompressedFilesAlike) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 100000; ++i) text += std::to_string(i) + "\n";
  const std::vector<std::string> paths = {folder.write("a.txt", text), gzip(text, folder, "b.txt.gz"),
                                          folder.write("c.txt.zst", zstd(text) + zstd("tail"))};
  EXPECT_THAT(read_corpus(paths), ElementsAre(text, text, text + "tail"));
}

TEST(Corpus, ReadsTheTextOfEachLine) {
  const TempFolder folder;
  const std::string lines = "{\"id\": 1, \"text\": \"one\\n\\u00e9\"}\r\n\n{\"text\": \"\"}\n{\"text\": \"two\"}";
  EXPECT_THAT(read_corpus({folder.write("a.jsonl", lines)}), ElementsAre("one\n\xC3\xA9", "two"));
  EXPECT_THAT(read_corpus({gzip(lines, folder, "a.jsonl.gz")}), ElementsAre("one\n\xC3\xA9", "two"));
}

TEST(Corpus, LinesKeepBytesThatAreNotUtf8) {
  std::string text;
  for (int b = 128; b < 256; ++b) text += static_cast<char>(b);
  EXPECT_EQ(text_of_json("{\"text\": \"a" + text + "\\u00ff\xE2\x82\xAC\"}", "x"), "a" + text + "\xC3\xBF\xE2\x82\xAC");
  EXPECT_THAT(error_of([] { text_of_json("{\"text\": \"\xFF\\udbff\\udfff\"}", "x:3"); }), HasSubstr("x:3: "));
}

TEST(Corpus, BadLinesAreNamed) {
  const TempFolder folder;
  const auto error = [&](const char* lines) {
    const std::string path = folder.write("a.jsonl", lines);
    return error_of([&] { read_corpus({path}); });
  };
  EXPECT_THAT(error("{\"text\": \"a\"}\nnonsense\n"), HasSubstr("a.jsonl:2: expected a JSON object, got nonsense"));
  EXPECT_THAT(error("{\"body\": \"a\"}\n"), HasSubstr("a.jsonl:1: text: expected a string, the field is missing"));
  EXPECT_THAT(error("{\"text\": 5}\n"), HasSubstr("a.jsonl:1: text: expected a string, got number"));
  EXPECT_THAT(error("\n\n"), HasSubstr("a.jsonl: holds no text"));
}

TEST(Corpus, FilesWithoutTextAreNamed) {
  const TempFolder folder;
  const auto error = [](const std::string& path) { return error_of([&] { read_corpus({path}); }); };
  EXPECT_THAT(error(folder.write("empty.txt", "")), HasSubstr("empty.txt: holds no text"));
  EXPECT_THAT(error(folder / "missing.txt"), HasSubstr("missing.txt: cannot open: No such file"));
  EXPECT_THAT(error(folder / "."), HasSubstr("is a folder"));
}

TEST(Corpus, DamagedArchivesAreNamed) {
  const TempFolder folder;
  std::mt19937 random(1);
  std::string text(200000, '\0');
  for (char& c : text) c = static_cast<char>('a' + random() % 26);
  gzip(text, folder, "a.gz");
  const std::string cut_gz = folder.write("cut.gz", folder.read("a.gz").substr(0, 60000));
  const std::string cut_zst = folder.write("cut.zst", zstd(text).substr(0, 60000));
  const auto error = [](const std::string& path) { return error_of([&] { read_corpus({path}); }); };
  EXPECT_THAT(error(cut_gz), HasSubstr("cut.gz: damaged or cut off"));
  EXPECT_THAT(error(cut_zst), HasSubstr("cut.zst: the zstd file is cut off"));
  EXPECT_THAT(error(folder.write("plain.gz", text)), HasSubstr("plain.gz: not a gzip file"));
  EXPECT_THAT(error(folder.write("plain.zst", text)), HasSubstr("plain.zst: damaged"));
}

TEST(DataBuild, RoundTripKeepsDocumentsAndTheirBytes) {
  const TempFolder folder;
  const std::string text = "any \xFF\xFE bytes\n";
  DataBuildOptions options{"bytes", folder / "set", 0, 2, {folder.write("a.txt", text), folder.write("b.txt", "b")}};
  const DataBuildResult result = build_data(options);
  const Tokenizer tokenizer = load_tokenizer("bytes");
  EXPECT_THAT(documents_of(folder / "set", tokenizer), ElementsAre(text, "b"));
  EXPECT_EQ(result.train.bytes, static_cast<int64_t>(text.size()) + 1);
  EXPECT_EQ(result.train.tokens, result.train.bytes + 2);
  EXPECT_FALSE(folder.has("set.heldout.bin"));
  const DataMeta meta = read_meta(folder / "set").value();
  EXPECT_EQ(meta.documents, 2);
  EXPECT_EQ(meta.vocab, 257);
  EXPECT_EQ(meta.tokenizer_xxh3, tokenizer.xxh3());
}

TEST(DataBuild, HoldsDocumentsOutWhateverTheNumberOfWorkers) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 3000; ++i)
    lines += "{\"text\": \"document " + std::to_string(i) + std::string(200, '.') + "\"}\n";
  const std::string path = folder.write("a.jsonl", lines);
  const DataBuildResult result = build_data({"bytes", folder / "one", 5, 1, {path}});
  build_data({"bytes", folder / "four", 5, 4, {path}});
  EXPECT_EQ(result.train.documents + result.held_out.documents, 3000);
  EXPECT_NEAR(static_cast<double>(result.held_out.documents), 150, 40);
  for (const char* part : {".bin", ".idx", ".heldout.bin", ".heldout.idx", ".heldout.meta.json"}) {
    EXPECT_EQ(folder.read(std::string("one") + part), folder.read(std::string("four") + part)) << part;
  }
  const Tokenizer tokenizer = load_tokenizer("bytes");
  std::set<std::string> all;
  for (const char* prefix : {"one", "one.heldout"}) {
    for (const std::string& text : documents_of(folder / prefix, tokenizer)) all.insert(text);
  }
  EXPECT_EQ(all.size(), 3000u);
}

TEST(DataBuild, ABadFileLeavesNoDataBehind) {
  const TempFolder folder;
  DataBuildOptions options{"bytes", folder / "set", 0, 2, {folder.write("a", "x"), folder.write("empty", "")}};
  EXPECT_THAT(error_of([&] { build_data(options); }), HasSubstr("empty: holds no text"));
  EXPECT_FALSE(folder.has("set.bin") || folder.has("set.bin.tmp") || folder.has("set.meta.json"));
}

TEST(DataBuild, ASetWithoutDocumentsIsAnError) {
  const TempFolder folder;
  const std::string path = folder.write("a.txt", "x");
  const bool held_out = is_held_out(path, 50);
  EXPECT_THAT(error_of([&] {
                build_data({"bytes", folder / "set", 50, 1, {path}});
              }),
              HasSubstr(held_out ? "leaves no document to train on" : "of 1 documents is none"));
}

TEST(DataBuild, BadOptionsAreNamed) {
  const TempFolder folder;
  const std::string path = folder.write("a.txt", "x");
  EXPECT_THAT(error_of([&] { build_data({"bytes", folder / "set", 0, 1, {}}); }), HasSubstr("at least one file"));
  EXPECT_THAT(error_of([&] { build_data({"bytes", folder / "set", 100, 1, {path}}); }), HasSubstr("--held-out"));
  EXPECT_THAT(error_of([&] { build_data({"bytes", folder / "set", 0, -1, {path}}); }), HasSubstr("--workers"));
  EXPECT_THAT(error_of([&] {
                build_data({"none.json", folder / "set", 0, 1, {path}});
              }),
              HasSubstr("none.json: cannot"));
  EXPECT_THAT(error_of([&] {
                build_data({"bytes", folder / "set", 0, 20000, {path}});
              }),
              HasSubstr("--workers: expected 1 to 1024, got 20000"));
  EXPECT_THAT(error_of([&] { build_data({"bytes", "", 0, 1, {path}}); }), HasSubstr("--out: expected a prefix"));
  EXPECT_THAT(error_of([&] {
                build_data({"bytes", path + "/set", 0, 1, {path}});
              }),
              HasSubstr("a.txt: cannot be created"));
}

TEST(DataBuild, CreatesTheFolderOfThePrefix) {
  const TempFolder folder;
  build_data({"bytes", folder / "new/er/set", 0, 1, {folder.write("a.txt", "x")}});
  EXPECT_TRUE(folder.has("new/er/set.bin"));
}

TEST(DataBuild, AnEarlierHeldOutSetGoesWhenItsDocumentsAreTrainedOn) {
  const TempFolder folder;
  std::vector<std::string> files;
  for (int i = 0; i < 40; ++i) files.push_back(folder.write("document" + std::to_string(i), "x"));
  EXPECT_THAT(build_data({"bytes", folder / "set", 50, 1, files}).removed, ElementsAre());
  ASSERT_TRUE(folder.has("set.heldout.meta.json"));
  EXPECT_THAT(build_data({"bytes", folder / "set", 0, 1, files}).removed,
              ElementsAre(folder / "set.heldout.meta.json", folder / "set.heldout.idx", folder / "set.heldout.bin",
                          folder / "set.heldout.documents.txt"));
  for (const char* part : {"meta.json", "idx", "bin", "documents.txt"}) {
    EXPECT_FALSE(folder.has(std::string("set.heldout.") + part)) << part;
  }
  EXPECT_EQ(IndexedDataset(folder / "set").documents(), 40);
}

TEST(DataMeta, AnotherTokenizerIsRefused) {
  DataMeta meta;
  meta.tokenizer_xxh3 = load_tokenizer("bytes").xxh3();
  check_tokenizer("p", meta, "bytes", meta.tokenizer_xxh3);
  EXPECT_THAT(error_of([&] { check_tokenizer("p", meta, "t.json", 0x12); }),
              testing::AllOf(HasSubstr("the tokenizer does not match the data: p.meta.json"),
                             HasSubstr("t.json is 0000000000000012")));
}

TEST(DataMeta, BadFilesAreNamed) {
  const TempFolder folder;
  EXPECT_FALSE(read_meta(folder / "none").has_value());
  const auto error = [&](const char* text) {
    folder.write("p.meta.json", text);
    return error_of([&] { read_meta(folder / "p"); });
  };
  EXPECT_THAT(error("nonsense"), HasSubstr("p.meta.json: expected a JSON object"));
  EXPECT_THAT(error("{\"tokenizer_xxh3\": \"xyz\"}"), HasSubstr("tokenizer_xxh3: expected 16"));
  EXPECT_THAT(error("{\"tokenizer_xxh3\": \"0123456789abcdef\", \"vocab\": -1}"),
              HasSubstr("vocab: expected a number"));
  EXPECT_THAT(error("{\"tokenizer_xxh3\": \"0123456789abcdef\"}"),
              HasSubstr("vocab: expected a number of 0 or more, got nothing"));
}

}  // namespace
}  // namespace sluice
