#include "runtime/data/tokenizer.h"

#include <random>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "runtime/data/bpe_trainer.h"
#include "runtime/data/encoder.h"
#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer_spec.h"
#include "runtime/files/xxh3.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

// Merges l+o, lo+w, e+r, Ġ+lo, in this order, split as Qwen does.
Json small_file() {
  TokenizerSpec spec = bytes_tokenizer_spec();
  spec.tokens.pop_back();
  spec.split_regex = kQwenRegex;
  for (const char* token : {"lo", "low", "er", " lo"}) spec.tokens.push_back(token);
  spec.merges = {{'l', 'o', 256, 0}, {256, 'w', 257, 1}, {'e', 'r', 258, 2}, {' ', 256, 259, 3}};
  spec.eod = 260;
  spec.tokens.push_back(kEndOfDocument);
  return Json::parse(format_tokenizer_json(spec));
}

Tokenizer from(const Json& file) { return Tokenizer(file.dump(), "t.json"); }

std::string error_from(const Json& file) {
  const std::string message = error_of([&] { from(file); });
  EXPECT_THAT(message, HasSubstr("t.json: "));
  return message;
}

std::string random_bytes(std::mt19937& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& b : bytes) b = static_cast<char>(random());
  return bytes;
}

TEST(Tokenizer, MergesLowestRankFirstWithinWords) {
  const Tokenizer tokenizer = from(small_file());
  EXPECT_THAT(tokenizer.encode("lower low lob"), ElementsAre(257, 258, ' ', 257, 259, 'b'));
  EXPECT_THAT(tokenizer.encode("l ow"), ElementsAre('l', ' ', 'o', 'w'));
  EXPECT_EQ(tokenizer.vocab_size(), 261);
  EXPECT_EQ(tokenizer.eod(), 260);
}

TEST(Tokenizer, BytesAreTheirOwnIds) {
  const Tokenizer tokenizer = load_tokenizer("bytes");
  EXPECT_THAT(tokenizer.encode("A\xFFz"), ElementsAre(65, 255, 122));
  EXPECT_EQ(tokenizer.vocab_size(), 257);
  EXPECT_EQ(tokenizer.eod(), 256);
}

TEST(Tokenizer, RoundTripKeepsAnyBytes) {
  std::mt19937 random(3);
  for (const Tokenizer& tokenizer : {load_tokenizer("bytes"), from(small_file())}) {
    Encoder encoder(tokenizer);
    std::vector<int32_t> ids;
    const auto round_trip = [&](const std::string& text) {
      ids.clear();
      encoder.encode(text, ids);
      return tokenizer.decode(ids);
    };
    for (int i = 0; i < 300; ++i) {
      std::string text = random_bytes(random, random() % 40) + "low \xE2\x82\xAC lower" + random_bytes(random, i % 7);
      EXPECT_EQ(round_trip(text), text);
    }
    for (const std::string& text : {std::string("\xED\xA0\x80"), std::string("\xC0\x80"),
                                    std::string("\xF4\x90\x80\x80"), std::string("a\0b", 3), std::string("\xE2\x82")}) {
      EXPECT_EQ(round_trip(text), text);
    }
  }
}

TEST(Tokenizer, AddedTokensAreCutOutLongestFirst) {
  Json file = small_file();
  file["added_tokens"].push_back({{"id", 261}, {"content", "<x>"}});
  file["added_tokens"].push_back({{"id", 262}, {"content", "<x>low"}});
  const Tokenizer tokenizer = from(file);
  EXPECT_THAT(tokenizer.encode("<x>lower<x>er<|endoftext|>"), ElementsAre(262, 258, 261, 258, 260));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{262, 260}), "<x>low<|endoftext|>");
}

TEST(Tokenizer, NormalisesOnlyWhenTheFileAsksForIt) {
  Json file = small_file();
  const std::string decomposed = "e\xCC\x81", composed = "\xC3\xA9";
  EXPECT_EQ(from(file).encode(decomposed).size(), 3u);
  file["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(from(file).encode(decomposed), from(file).encode(composed));
  const std::string with_nul = std::string("\0", 1) + decomposed + "x";
  EXPECT_EQ(from(file).decode(from(file).encode(with_nul)), std::string("\0", 1) + composed + "x");
}

TEST(Tokenizer, ReadsMergesAsStringsAndAsPairs) {
  Json file = small_file();
  const std::vector<int32_t> ids = from(file).encode("slower, lower");
  for (Json& merge : file["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  EXPECT_EQ(from(file).encode("slower, lower"), ids);
}

TEST(Tokenizer, ByteLevelAloneSplitsAsGpt2Does) {
  Json file = small_file();
  file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  EXPECT_EQ(*from(file).tables().spec.split_regex, kGpt2Regex);
}

TEST(Tokenizer, LongWordsMergeAsShortOnesDo) {
  const Tokenizer tokenizer = from(small_file());
  std::string word;
  std::vector<int32_t> expected;
  for (int i = 0; i < 50000; ++i) {
    word += "lower";
    expected.insert(expected.end(), {257, 258});
  }
  EXPECT_EQ(tokenizer.encode(word), expected);
}

TEST(Tokenizer, LongRunsNeverLoseText) {
  const Tokenizer tokenizer = from(small_file());
  for (const char* piece : {" ", "\n", "a", "-", "7", "\xE4\xB8\xAD", " \n"}) {
    std::string text;
    while (text.size() < 500'000) text += piece;
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Tokenizer, AnExpressionThatBacktracksTooMuchIsAnError) {
  Json file = small_file();
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a+a+)+b|.";
  const Tokenizer tokenizer = from(file);
  EXPECT_THAT(error_of([&] { tokenizer.encode(std::string(5000, 'a')); }), HasSubstr("split expression: "));
}

TEST(Tokenizer, AnExpressionThatNeedsAMuchLargerStackStillMatches) {
  Splitter splitter{SplitPattern("(?:a|b(?=.))+|.")};
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "ab";
  std::vector<size_t> sizes;
  splitter.split(text + "!", [&](std::string_view w) { sizes.push_back(w.size()); });
  EXPECT_THAT(sizes, ElementsAre(text.size(), 1));
}

TEST(Tokenizer, SpacesAreThoseOfUnicode) {
  const Tokenizer tokenizer = from(small_file());
  Splitter splitter(*tokenizer.tables().split);
  std::vector<std::string> words;
  splitter.split(
      "a\xE1\xA0\x8E"
      "b\xE3\x80\x80"
      "c\xC2\x85 d",
      [&](std::string_view w) { words.emplace_back(w); });
  EXPECT_THAT(words, ElementsAre("a",
                                 "\xE1\xA0\x8E"
                                 "b",
                                 "\xE3\x80\x80"
                                 "c",
                                 "\xC2\x85", " d"));
}

TEST(Tokenizer, AnEncoderWithAFullCacheGivesTheSameIds) {
  const Tokenizer tokenizer = from(small_file());
  Encoder encoder(tokenizer);
  std::string text;
  for (int i = 0; i < 150000; ++i)
    text += " low" + std::string(1, static_cast<char>('a' + i % 26)) + "x" + std::to_string(i);
  std::vector<int32_t> once, twice;
  encoder.encode(text, once);
  encoder.encode(text, twice);
  EXPECT_EQ(once, twice);
  EXPECT_EQ(tokenizer.decode(once), text);
}

TEST(Tokenizer, DecodeNamesAnUnknownId) {
  const Tokenizer tokenizer = load_tokenizer("bytes");
  EXPECT_THAT(error_of([&] { tokenizer.decode(std::vector<int32_t>{257}); }),
              HasSubstr("token id 257 is not in the tokenizer's vocabulary of 257"));
  EXPECT_THAT(error_of([&] { tokenizer.decode(std::vector<int32_t>{-1}); }), HasSubstr("token id -1"));
}

TEST(Tokenizer, WhatWouldChangeIdsIsRefused) {
  const auto change = [](const char* pointer, const Json& value) {
    Json file = small_file();
    file[Json::json_pointer(pointer)] = value;
    return error_from(file);
  };
  EXPECT_THAT(change("/model/type", "WordPiece"), HasSubstr("model.type: expected BPE"));
  EXPECT_THAT(change("/model/dropout", 0.1), HasSubstr("model.dropout"));
  EXPECT_THAT(change("/model/byte_fallback", true), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(change("/model/merges/0", Json::array({"l", "x"})),
              HasSubstr("model.merges[0]: lx is not in model.vocab"));
  EXPECT_THAT(change("/model/vocab/a", -1), HasSubstr("model.vocab[a]: expected an id"));
  EXPECT_THAT(change("/model/vocab/a", 98), HasSubstr("is used twice"));
  EXPECT_THAT(change("/normalizer", {{"type", "Lowercase"}}), HasSubstr("normalizer: expected null or NFC"));
  EXPECT_THAT(change("/pre_tokenizer", {{"type", "Whitespace"}}),
              HasSubstr("pre_tokenizer: expected Split and ByteLevel"));
  EXPECT_THAT(change("/pre_tokenizer", nullptr), HasSubstr("pre_tokenizer"));
  EXPECT_THAT(change("/pre_tokenizer/pretokenizers/0/behavior", "Removed"), HasSubstr("behavior Isolated"));
  EXPECT_THAT(change("/pre_tokenizer/pretokenizers/1/add_prefix_space", true), HasSubstr("add_prefix_space"));
  EXPECT_THAT(change("/added_tokens/0/id", 0), HasSubstr("added_tokens[0].id: 0 is the id of another token too"));
  EXPECT_THAT(change("/added_tokens/0/lstrip", true), HasSubstr("added_tokens[0].lstrip"));
  EXPECT_THAT(change("/added_tokens", Json::array()), HasSubstr("<|endoftext|>, which ends a document, is missing"));
}

TEST(Tokenizer, AVocabularyWithoutAByteIsRefused) {
  Json file = small_file();
  file["model"]["vocab"].erase("z");
  EXPECT_THAT(error_from(file), HasSubstr("no token for byte 122"));
}

TEST(Tokenizer, WhatIsNoTokenizerIsRefused) {
  EXPECT_THAT(error_of([] { load_tokenizer("/nowhere/t.json"); }), HasSubstr("/nowhere/t.json: cannot open"));
  EXPECT_THAT(error_of([] { Tokenizer(" \n", "t"); }), HasSubstr("t: the tokenizer file is empty"));
  EXPECT_THAT(error_of([] { Tokenizer("{\"model\"", "t"); }), HasSubstr("t: not a tokenizer.json"));
  EXPECT_THAT(error_of([] { Tokenizer("{}", "t"); }), HasSubstr("t: model: missing"));
  EXPECT_THAT(error_of([] { Tokenizer("{\"model\": 3}", "t"); }), HasSubstr("t: "));
}

TEST(Tokenizer, RandomDamageToTheFileIsRefusedOrHarmless) {
  const std::string file = small_file().dump();
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = file;
    for (int flips = 0; flips < 4; ++flips) damaged[random() % damaged.size()] = "{}[]\",:0x1e9\\ul"[random() % 16];
    try {
      const Tokenizer tokenizer(damaged, "t");
      tokenizer.decode(tokenizer.encode("lower low\xFF"));
    } catch (const Error& e) {
      EXPECT_EQ(e.fault(), Fault::kUser) << e.what();
    }
  }
}

TEST(Tokenizer, HashIsOfTheFile) {
  const TempFolder folder;
  const std::string path = folder.write("t.json", small_file().dump());
  const Tokenizer tokenizer = load_tokenizer(path);
  EXPECT_EQ(tokenizer.xxh3(), xxh3(folder.read("t.json")));
  EXPECT_NE(tokenizer.xxh3(), load_tokenizer("bytes").xxh3());
  EXPECT_EQ(Tokenizer(tokenizer.file_text(), "copy").xxh3(), tokenizer.xxh3());
}

}  // namespace
}  // namespace sluice
