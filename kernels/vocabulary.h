#pragma once

#include "kernels/core/stream.h"

namespace sluice {

/// Which rows of a vocabulary a table, or which columns logits, hold: those from `first` on, as many as it has.
struct VocabularyPart {
  int64_t first = 0;
  int64_t vocab = 0;  ///< of the whole vocabulary
};

}  // namespace sluice
