#include "runtime/tasks/word_lists.h"

#include <algorithm>
#include <numbers>
#include <numeric>

#include "runtime/tasks/prompt.h"

namespace sluice {
namespace {

constexpr int64_t kCommonWords = 10, kLongList = 4096;
constexpr int64_t kFrequentWords = 3, kRankedWords = 50;

/// A word with the comma and space that separate it from the one before.
Piece in_list(PieceEncoder& encode, const std::string& word) { return encode(", " + word); }

PromptParts ask_for_most_frequent(const std::string& how_many, const std::vector<std::string>& words) {
  return {"Words of a list follow, some of them many times. The list begins",
          ".\nThat was the list. Which " + how_many + " words come most often in it? The " + how_many +
              " words that come most often are",
          words};
}

std::vector<std::string> new_words(int64_t count, Names& names) {
  std::vector<std::string> words;
  for (int64_t i = 0; i < count; ++i) words.push_back(names.word());
  return words;
}

/// How often each of the ranked words comes in a text of `total`.
std::vector<int64_t> ranked_counts(int64_t total) {
  constexpr double kZeta2 = std::numbers::pi * std::numbers::pi / 6;
  std::vector<int64_t> counts;
  for (int64_t rank = 1; rank <= kRankedWords; ++rank) {
    counts.push_back(static_cast<int64_t>(static_cast<double>(total) / (kZeta2 * static_cast<double>(rank * rank))));
  }
  return counts;
}

}  // namespace

WordCounts common_word_counts(int64_t length) { return length < kLongList ? WordCounts{10, 1} : WordCounts{30, 3}; }

std::optional<TaskSample> common_words(PieceEncoder& encode, int64_t length, Names& names, Draws& draws) {
  const std::vector<std::string> words = new_words(kCommonWords, names);
  Prompt prompt(encode, ask_for_most_frequent("ten", words), length);
  const WordCounts counts = common_word_counts(length);
  int64_t room = prompt.room();
  std::vector<Piece> body;
  const auto add = [&](const std::string& word, int64_t count) {
    const Piece piece = in_list(encode, word);
    room -= count * size(piece);
    if (room >= 0) body.insert(body.end(), static_cast<size_t>(count), piece);
  };
  for (const std::string& word : words) add(word, counts.common);
  while (room > 0) add(names.word(), counts.others);
  if (body.size() < static_cast<size_t>(kCommonWords * (counts.common + counts.others))) return std::nullopt;
  draws.shuffle(body);
  return std::move(prompt).with(body);
}

std::optional<TaskSample> frequent_words(PieceEncoder& encode, int64_t length, Names& names, Draws& draws) {
  const std::vector<std::string> words = new_words(kRankedWords, names);
  Prompt prompt(encode, ask_for_most_frequent("three", {words.begin(), words.begin() + kFrequentWords}), length);
  std::vector<Piece> pieces;
  for (const std::string& word : words) pieces.push_back(in_list(encode, word));
  const auto tokens = [&](int64_t total) {
    const std::vector<int64_t> counts = ranked_counts(total);
    return std::transform_reduce(counts.begin(), counts.end(), pieces.begin(), int64_t{0}, std::plus<>(),
                                 [](int64_t count, const Piece& piece) { return count * size(piece); });
  };
  // The longest text that fits: every word has at least one token.
  int64_t fits = 0, too_long = 2 * std::max<int64_t>(prompt.room(), 0) + kRankedWords;
  while (too_long - fits > 1) {
    const int64_t middle = fits + (too_long - fits) / 2;
    (tokens(middle) <= prompt.room() ? fits : too_long) = middle;
  }
  const std::vector<int64_t> counts = ranked_counts(fits);
  if (counts[kFrequentWords] == 0 || counts[kFrequentWords - 1] == counts[kFrequentWords]) return std::nullopt;
  std::vector<Piece> body;
  for (size_t i = 0; i < counts.size(); ++i) body.insert(body.end(), static_cast<size_t>(counts[i]), pieces[i]);
  draws.shuffle(body);
  return std::move(prompt).with(body);
}

}  // namespace sluice
