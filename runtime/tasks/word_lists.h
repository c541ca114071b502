#pragma once

#include <optional>

#include "runtime/tasks/haystack.h"
#include "runtime/tasks/prompt.h"
#include "runtime/tasks/task.h"

namespace sluice {

/// Asks for the ten words of a list that come 30 times among others that come 3 times, or, where that does not fit,
/// 10 times among others that come once. Nothing when not even that fits.
std::optional<Task> common_words(PieceEncoder& encode, int64_t length, Names& names, Draws& draws);

/// Asks for the three most frequent words of a text in which word k of 50 has a share of 1 / (zeta(2) k^2). Nothing
/// when the text is too short for their counts to differ from the fourth's.
std::optional<Task> frequent_words(PieceEncoder& encode, int64_t length, Names& names, Draws& draws);

}  // namespace sluice
