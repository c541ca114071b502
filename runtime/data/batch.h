#pragma once

#include <cstdint>
#include <vector>

namespace sluice {

/// Packed sequences as the model reads them. Kept and refilled, so that a steady run allocates nothing.
struct Batch {
  int64_t sequences = 0;
  int64_t length = 0;                     ///< tokens a sequence
  std::vector<int32_t> tokens;            ///< [sequences * length]
  std::vector<int32_t> targets;           ///< [sequences * length] the next token; -1: not a target
  std::vector<int32_t> positions;         ///< [sequences * length] from 0 at each document's or sequence's start
  std::vector<int32_t> document_offsets;  ///< ascending from 0 to sequences * length, cut at sequences as well
  int64_t target_count = 0;               ///< targets that are not -1

  /// Empties it for `count` sequences of `tokens_each` tokens and reserves room for the worst case.
  void start(int64_t count, int64_t tokens_each);
  /// Appends a document of tokens without targets until the number of tokens is a multiple.
  void pad_to_multiple(int64_t of);
};

}  // namespace sluice
