#include <random>
#include <string>
#include <vector>

#include "runtime/data/tokenizer.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string base64(std::string_view bytes) {
  const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += i + k <= bytes.size() ? digits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::string ranks(const std::vector<std::string>& tokens) {
  std::string file;
  for (int b = 0; b < 256; ++b) file += base64(std::string(1, static_cast<char>(b))) + " " + std::to_string(b) + "\n";
  for (size_t i = 0; i < tokens.size(); ++i) file += base64(tokens[i]) + " " + std::to_string(256 + i) + "\n";
  return file;
}

TEST(Tiktoken, MergesByTheRankOfTheWhole) {
  const Tokenizer tokenizer(ranks({"bc", "ab", "abc", "abcd"}), "small_cl100k.tiktoken");
  EXPECT_THAT(tokenizer.encode("ab"), ElementsAre(257));
  EXPECT_THAT(tokenizer.encode("abce"), ElementsAre(258, 'e'));
  EXPECT_EQ(tokenizer.eod(), 260);
}

TEST(Tiktoken, AWordThatIsATokenNeedsNoMerges) {
  const Tokenizer tokenizer(ranks({"wxyz"}), "small_gpt2.tiktoken");
  EXPECT_THAT(tokenizer.encode("wxyz"), ElementsAre(256));
  EXPECT_THAT(tokenizer.encode("wxyza"), ElementsAre('w', 'x', 'y', 'z', 'a'));
}

TEST(Tiktoken, SpecialTokensAreCutOut) {
  const Tokenizer tokenizer(ranks({}), "a/small_qwen.tiktoken");
  EXPECT_THAT(tokenizer.encode("a<|im_start|><|endoftext|>"), ElementsAre('a', 257, 256));
}

TEST(Tiktoken, FamiliesSplitDigitsDifferently) {
  const std::vector<std::string> numbers = {"12", "34", "123", "1234"};
  EXPECT_THAT(Tokenizer(ranks(numbers), "gpt2").encode("1234"), ElementsAre(259));
  EXPECT_THAT(Tokenizer(ranks(numbers), "o200k").encode("1234"), ElementsAre(258, '4'));
  EXPECT_THAT(Tokenizer(ranks(numbers), "qwen").encode("1234"), ElementsAre('1', '2', '3', '4'));
}

TEST(Tiktoken, BadFilesAreRefused) {
  const auto error = [](const std::string& text) { return error_of([&] { Tokenizer(text, "x_qwen.tiktoken"); }); };
  EXPECT_THAT(error("QQ== 0\nQg= 1\n"), HasSubstr("x_qwen.tiktoken:2: expected \"BASE64 RANK\""));
  EXPECT_THAT(error("QQ==\n"), HasSubstr(":1: expected"));
  EXPECT_THAT(error("QQ== -1\n"), HasSubstr(":1: expected"));
  EXPECT_THAT(error("QQ== 99999999999\n"), HasSubstr(":1: expected"));
  EXPECT_THAT(error("QQ== 0\nQQ== 1\n"), HasSubstr(":2: this token was listed before"));
  EXPECT_THAT(error("QQ== 0\nQg== 0\n"), HasSubstr(":2: rank 0 was used before"));
  EXPECT_THAT(error("QQ== 0\n"), HasSubstr("no token for byte 0"));
  EXPECT_THAT(error_of([] { Tokenizer(ranks({}), "some.tiktoken"); }),
              HasSubstr("some.tiktoken: 256 ranks are none of"));
}

}  // namespace
}  // namespace sluice
