#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/data/tokenizer_spec.h"

namespace sluice {

/// Occurrences of each word.
using WordCounts = std::unordered_map<std::string, int64_t>;

/// Counts the words of all documents on `workers` threads. Bytes that are not UTF-8 are left out.
WordCounts count_words(const std::vector<std::string>& paths, const std::string& split_regex, int workers);

/// Byte-pair encoding [sennrich2016]: `vocab_size - 257` times, the most frequent pair of neighbours becomes a token;
/// among equals the pair of lowest ids. The same counts give the same tokenizer. Ids: the 256 bytes, the merges in
/// order, end of document. Throws Error when no pair that occurs twice is left.
TokenizerSpec train_bpe(const WordCounts& words, int64_t vocab_size, const std::string& split_regex);

}  // namespace sluice
