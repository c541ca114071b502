#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/data/added_tokens.h"
#include "runtime/data/merge_table.h"
#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/tokenizer_spec.h"
#include "runtime/data/word_cache.h"

namespace sluice {

/// A tokenizer's look-up structures, shared by all encoders.
struct TokenizerTables {
  TokenizerTables(TokenizerSpec from, const std::string& name);

  TokenizerSpec spec;
  MergeTable merges;
  std::optional<SplitPattern> split;
  AddedTokenFinder added_before, added_after;  // normalisation
  std::vector<int32_t> byte_ids;               // [256]
  std::unordered_map<std::string_view, int32_t> whole_words;
};

/// One thread's encoder; keeps a cache of words between calls.
class Encoder {
 public:
  explicit Encoder(const Tokenizer& tokenizer);

  /// Appends the ids of `text`, any bytes.
  void encode(std::string_view text, std::vector<int32_t>& out);

 private:
  void encode_plain(std::string_view text, std::vector<int32_t>& out);
  void encode_utf8(std::string_view text, std::vector<int32_t>& out);
  void encode_normal(std::string_view text, std::vector<int32_t>& out);
  void encode_word(std::string_view word, std::vector<int32_t>& out);

  const Tokenizer tokenizer_;
  const TokenizerTables& tables_;
  std::optional<Splitter> splitter_;
  WordCache cache_;
  std::vector<int32_t> word_;
};

}  // namespace sluice
