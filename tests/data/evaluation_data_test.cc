#include "runtime/data/evaluation_data.h"

#include <numeric>
#include <vector>

#include "runtime/data/indexed_writer.h"
#include "runtime/data/tokenizer.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string write_set(const TempFolder& folder, const std::vector<std::vector<int32_t>>& documents) {
  IndexedWriter writer(folder / "set", 300);
  for (const auto& document : documents) writer.add(document);
  writer.finish();
  return folder / "set";
}

TEST(EvaluationData, EveryTokenButADocumentsFirstIsATargetOnce) {
  const TempFolder folder;
  const EvaluationData data(write_set(folder, {{1, 2, 3, 4, 5}, {6, 7}, {8, 9, 10, 11}}), 4, 300);
  ASSERT_EQ(data.windows(), 3);
  Batch batch;
  data.read(0, 3, batch);
  EXPECT_THAT(batch.tokens, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
  EXPECT_THAT(batch.targets, ElementsAre(2, 3, 4, 5, -1, 7, -1, 9, 10, 11, -1));
  EXPECT_THAT(batch.positions, ElementsAre(0, 1, 2, 3, 0, 0, 1, 0, 0, 1, 2));
  EXPECT_THAT(batch.document_offsets, ElementsAre(0, 4, 5, 7, 8, 11));
  EXPECT_EQ(batch.target_count, 8);
}

TEST(EvaluationData, AllLengthsCountTheSameTargets) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, {{1, 2, 3, 4, 5}, {6}, {7, 8, 9}, {10, 11}});
  for (int64_t length = 1; length < 20; ++length) {
    const EvaluationData data(prefix, length, 300);
    Batch batch;
    int64_t targets = 0;
    for (int64_t w = 0; w < data.windows(); ++w) {
      data.read(w, 1, batch);
      targets += batch.target_count;
    }
    EXPECT_EQ(targets, 7) << length;
  }
}

TEST(EvaluationData, AWindowIsNoLongerThanTheSet) {
  const TempFolder folder;
  const EvaluationData data(write_set(folder, {{1, 2, 3, 4, 5}, {6, 7}}), int64_t{1} << 40, 300);
  ASSERT_EQ(data.windows(), 1);
  EXPECT_EQ(data.length(), 6);
  Batch batch;
  data.read(0, 1, batch);
  EXPECT_THAT(batch.tokens, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(batch.target_count, 5);
}

TEST(EvaluationData, NeedsSomethingToPredict) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, {{1}, {}, {2}});
  EXPECT_THAT(error_of([&] { EvaluationData(prefix, 4, 300); }), HasSubstr("no document has two tokens"));
}

TEST(EvaluationData, CountsTheBytesOfTextByDecoding) {
  const TempFolder folder;
  const Tokenizer tokenizer = load_tokenizer("bytes");
  const IndexedDataset set(write_set(folder, {{65, 66, 256}, {67, 256}}));
  EXPECT_EQ(count_text_bytes(set, tokenizer), 3);
}

}  // namespace
}  // namespace sluice
