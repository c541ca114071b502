#include "runtime/data/bpe_trainer.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// The definition, counted anew for every merge.
std::vector<std::string> train_slowly(const WordCounts& words, size_t merges) {
  std::vector<std::pair<std::vector<int32_t>, int64_t>> state;
  for (const auto& [word, count] : words) {
    std::vector<int32_t> ids;
    for (const char c : word) ids.push_back(static_cast<unsigned char>(c));
    state.push_back({ids, count});
  }
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  for (size_t m = 0; m < merges; ++m) {
    std::map<std::pair<int32_t, int32_t>, int64_t> pairs;
    for (const auto& [ids, count] : state) {
      for (size_t i = 0; i + 1 < ids.size(); ++i) pairs[{ids[i], ids[i + 1]}] += count;
    }
    const auto best =
        std::max_element(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto [left, right] = best->first;
    const auto id = static_cast<int32_t>(tokens.size());
    tokens.push_back(tokens[static_cast<size_t>(left)] + tokens[static_cast<size_t>(right)]);
    for (auto& [ids, count] : state) {
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        if (ids[i] != left || ids[i + 1] != right) continue;
        ids[i] = id;
        ids.erase(ids.begin() + static_cast<ptrdiff_t>(i) + 1);
      }
    }
  }
  return tokens;
}

TEST(BpeTrainer, FindsTheMergesOfTheDefinition) {
  const WordCounts words = {{"aaaa", 7},   {"aaaaaab", 3}, {"abab", 5}, {"banana", 9},   {" bandana", 4},
                            {"cabana", 2}, {"aba", 6},     {" ban", 9}, {"nananana", 3}, {"bcbcbc", 5}};
  const TokenizerSpec spec = train_bpe(words, 257 + 20, kQwenRegex);
  std::vector<std::string> expected = train_slowly(words, 20);
  expected.push_back(kEndOfDocument);
  EXPECT_EQ(spec.tokens, expected);
}

TEST(BpeTrainer, EqualCountsGoToTheLowestIds) {
  const TokenizerSpec spec = train_bpe({{"xy", 5}, {"ab", 5}, {"mn", 5}}, 260, kQwenRegex);
  EXPECT_THAT(std::vector<std::string>(spec.tokens.begin() + 256, spec.tokens.end()),
              ElementsAre("ab", "mn", "xy", "<|endoftext|>"));
}

TEST(BpeTrainer, TheNumberOfWorkersDoesNotMatter) {
  const TempFolder folder;
  std::vector<std::string> paths;
  for (int i = 0; i < 8; ++i) {
    std::string text;
    for (int w = 0; w < 60000; ++w) text += " w" + std::to_string(w * (i + 1) % 997);
    paths.push_back(folder.write("t" + std::to_string(i), text));
  }
  EXPECT_EQ(count_words(paths, kQwenRegex, 1), count_words(paths, kQwenRegex, 3));
}

TEST(BpeTrainer, TheFileItWritesEncodesAsItWasTrained) {
  const TempFolder folder;
  const std::string path = folder.write("t.txt", "the cat and the hat and the bat\xFF the cat");
  const TokenizerSpec spec = train_bpe(count_words({path}, kQwenRegex, 2), 262, kQwenRegex);
  const Tokenizer tokenizer(format_tokenizer_json(spec), "t.json");
  EXPECT_EQ(tokenizer.vocab_size(), 262);
  EXPECT_EQ(tokenizer.eod(), 261);
  const std::string text = "the hat\xFE and cats";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_LT(tokenizer.encode(text).size(), text.size() - 3);
}

TEST(BpeTrainer, TooLittleTextForTheVocabularyIsAnError) {
  EXPECT_THAT(error_of([] {
                train_bpe({{"ab", 2}}, 1000, kQwenRegex);
              }),
              HasSubstr("--vocab: asked for 1000 tokens, the text gives only 258"));
  EXPECT_THAT(error_of([] { train_bpe({{"ab", 2}}, 100, kQwenRegex); }), HasSubstr("--vocab: expected 257"));
}

}  // namespace
}  // namespace sluice
