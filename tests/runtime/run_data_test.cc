#include "runtime/run_data.h"

#include "runtime/data/data_meta.h"
#include "runtime/data/indexed_writer.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

/// A set of two documents, `a` `a`.. and `b` `b`.., with its meta file.
class RunDataTest : public testing::Test {
 protected:
  RunDataTest() : prefix_(folder_ / "set") {
    IndexedWriter writer(prefix_, 257);
    writer.add(std::vector<int32_t>(20, 97));
    writer.add(std::vector<int32_t>(10, 98));
    writer.finish();
    meta_.tokenizer_xxh3 = load_tokenizer("bytes").xxh3();
    meta_.vocab = 257, meta_.documents = 2, meta_.tokens = 30, meta_.bytes = 28;
    write_meta(prefix_, meta_);
  }

  TrainConfig config(const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> all = {"data.train[0].prefix=" + prefix_, "data.eval[0].name=e",
                                    "data.eval[0].prefix=" + prefix_, "model.vocab_size=257"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return tiny_config(all);
  }
  std::string error_with(const std::vector<std::string>& overrides = {}) const {
    return error_of([&] { RunData{config(overrides)}; });
  }

  const TempFolder folder_;
  const std::string prefix_;
  DataMeta meta_;
};

TEST_F(RunDataTest, OpensWhatFitsTogether) {
  const RunData data(config({"data.tokenizer=bytes"}));
  EXPECT_EQ(data.evaluation().size(), 1u);
  EXPECT_EQ(text_bytes(prefix_, data.evaluation()[0].data.set(), nullptr), 28);
}

TEST_F(RunDataTest, AMetaFileOfAnotherSetIsRefused) {
  const IndexedDataset set(prefix_);
  const auto refused = [&](const std::string& message) {
    write_meta(prefix_, meta_);
    EXPECT_THAT(error_with(), HasSubstr(message));
    EXPECT_THAT(error_of([&] { text_bytes(prefix_, set, nullptr); }), HasSubstr(message));
  };
  meta_.documents = 3;
  refused("set.meta.json: documents: 3, the data set has 2");
  meta_.documents = 2, meta_.tokens = 31;
  refused("set.meta.json: tokens: 31, the data set has 30");
  meta_.tokens = 30, meta_.bytes = 0;
  refused("set.meta.json: bytes: 0, but the data set has 30 tokens");
}

TEST_F(RunDataTest, ATokenizerLargerThanTheModelIsRefusedWithoutAMetaFileToo) {
  std::filesystem::remove(prefix_ + ".meta.json");
  EXPECT_THAT(error_with({"data.tokenizer=bytes", "model.vocab_size=256"}),
              HasSubstr("bytes: the tokenizer has 257 ids, more than model.vocab_size=256"));
}

TEST_F(RunDataTest, IdsOfAnEvaluationSetAreCheckedAtTheStart) {
  IndexedWriter writer(folder_ / "wild", 400);
  writer.add(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 300});
  writer.finish();
  const std::string wild = "data.eval[0].prefix=" + folder_ / "wild";
  EXPECT_THAT(error_with({wild}), HasSubstr("document 0, position 15: token id 300 is not in the vocabulary of 257"));
  // Only the first window of 12 tokens is ever read.
  RunData{config({wild, "data.eval_windows=1"})};
}

TEST_F(RunDataTest, TokensWithoutTextHaveNoBitsPerByte) {
  IndexedWriter writer(folder_ / "ends", 257);
  writer.add(std::vector<int32_t>{256, 256});
  writer.finish();
  const Tokenizer tokenizer = load_tokenizer("bytes");
  const IndexedDataset set(folder_ / "ends");
  EXPECT_THAT(error_of([&] { text_bytes(folder_ / "ends", set, &tokenizer); }), HasSubstr("stand for no text"));
}

}  // namespace
}  // namespace sluice
