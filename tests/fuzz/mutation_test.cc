#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "tests/fuzz/targets.h"
#include "tests/source_dir.h"

// What libFuzzer does for long with guidance, for a moment without: the same thousand mutations of good input each
// time.
namespace sluice {
namespace {

constexpr uint64_t kMutations = 1000;

/// Draws for one mutation.
class Dice {
 public:
  Dice(const std::string& name, uint64_t mutation) : random_(1, name), mutation_(mutation) {}
  size_t below(size_t n) { return n == 0 ? 0 : random_.words(draw_++, mutation_)[0] % n; }

 private:
  Philox random_;
  uint64_t mutation_, draw_ = 0;
};

/// Changes up to four places: bits, bytes, numbers, cuts, repetitions.
std::string mutate(std::string bytes, Dice& dice) {
  static const std::string kNumbers[] = {"-1", "0",  "9223372036854775807", "4294967296", "1e999", "nan", "{",
                                         "\"", "\\u"};
  for (size_t change = 0, changes = 1 + dice.below(4); change < changes; ++change) {
    const size_t at = dice.below(bytes.size());
    const size_t length = std::min(1 + dice.below(8), bytes.size() - std::min(at, bytes.size()));
    switch (dice.below(7)) {
      case 0:
        if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ 1 << dice.below(8));
        break;
      case 1:
        if (!bytes.empty()) bytes[at] = static_cast<char>(dice.below(2) ? 0xff : dice.below(256));
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:
        bytes.insert(at, bytes.substr(dice.below(bytes.size()), 1 + dice.below(16)));
        break;
      case 4:
        bytes.resize(at);
        break;
      case 5:
        bytes.replace(at, length, kNumbers[dice.below(std::size(kNumbers))]);
        break;
      default:
        for (size_t i = at; i < at + length; ++i) bytes[i] = static_cast<char>(0xff);
    }
  }
  return bytes;
}

class Parser : public testing::TestWithParam<FuzzTarget> {};

TEST_P(Parser, TakesTheInputThatMutationsStartFrom) { EXPECT_NO_THROW(GetParam().parse(GetParam().seed)); }

TEST_P(Parser, RefusesOrTakesWhateverComes) {
  for (uint64_t i = 0; i < kMutations; ++i) {
    Dice dice(GetParam().name, i);
    const std::string bytes = mutate(GetParam().seed, dice);
    ASSERT_TRUE(survives(GetParam(), bytes)) << "mutation " << i << ":\n" << bytes;
  }
}

TEST_P(Parser, RefusesDeepNesting) {
  for (const char* level : {"[", "{\"a\":", "{\"normalizer\":[", "a{", "model{"}) {
    std::string bytes;
    for (int i = 0; i < 100'000; ++i) bytes += level;
    EXPECT_TRUE(survives(GetParam(), bytes)) << level;
  }
}

/// Those that libFuzzer is built for, which have its corpus in corpus/TARGET.
class FuzzedParser : public testing::TestWithParam<FuzzTarget> {};

TEST_P(FuzzedParser, RefusesOrTakesWhatFuzzingFound) {
  const std::string corpus = source_dir() + "/tests/fuzz/corpus/" + GetParam().name;
  int64_t files = 0;
  for (const auto& file : std::filesystem::directory_iterator(corpus)) {
    std::ifstream stream(file.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    EXPECT_TRUE(survives(GetParam(), bytes)) << file.path();
    ++files;
  }
  EXPECT_GT(files, 0) << corpus;
}

std::string target_name(const testing::TestParamInfo<FuzzTarget>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(, FuzzedParser, testing::ValuesIn(file_targets()), target_name);
INSTANTIATE_TEST_SUITE_P(, Parser, testing::ValuesIn(fuzz_targets()), target_name);

}  // namespace
}  // namespace sluice
