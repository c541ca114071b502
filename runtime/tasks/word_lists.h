#pragma once

#include <optional>

#include "runtime/tasks/haystack.h"
#include "runtime/tasks/prompt.h"
#include "runtime/tasks/task.h"

namespace sluice {

/// How often the words of a list come.
struct WordCounts {
  int64_t common, others;
};

/// Of common_words, by the length alone, so that the samples of a length are equally hard: 30 and 3 from 4096 tokens
/// on, where they fit with any tokenizer, below 10 and 1.
WordCounts common_word_counts(int64_t length);

/// Asks for the ten common words of a list among others. Nothing when there is no room for as many others.
std::optional<TaskSample> common_words(PieceEncoder& encode, int64_t length, Names& names, Draws& draws);

/// Asks for the three most frequent words of a text in which word k of 50 has a share of 1 / (zeta(2) k^2). Nothing
/// when the text is too short for their counts to differ from the fourth's.
std::optional<TaskSample> frequent_words(PieceEncoder& encode, int64_t length, Names& names, Draws& draws);

}  // namespace sluice
