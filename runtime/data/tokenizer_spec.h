#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// The neighbours `left`, `right` become `result`; among the merges possible in a word the lowest rank goes first.
struct Merge {
  int32_t left, right, result, rank;
};

/// Text that stands for one id and is cut out before anything else.
struct AddedToken {
  std::string text;
  int32_t id = 0;
  bool normalized = false;  ///< looked for after normalisation, not before
};

/// What ends a document in every vocabulary known here.
inline constexpr const char* kEndOfDocument = "<|endoftext|>";

/// Ids of a tokenizer are below it: far above any vocabulary, and a table of all ids can be made.
inline constexpr int64_t kLargestVocabulary = int64_t{1} << 21;

/// A byte-level BPE tokenizer as data, whatever file it came from.
struct TokenizerSpec {
  std::vector<std::string> tokens;  ///< bytes of each id; empty: no such id
  std::vector<Merge> merges;
  std::optional<std::string> split_regex;  ///< none: the text is one word
  bool whole_words_first = false;          ///< a word that is a token is not merged
  bool nfc = false;
  std::vector<AddedToken> added;
  int32_t eod = 0;  ///< ends a document
};

/// Reads a Hugging Face tokenizer.json of the GPT-2 and Qwen family. `name` is the file's, for messages. Throws Error
/// naming the field for whatever would change ids and is not supported.
TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& name);

/// Reads a tiktoken rank file ("base64 rank" lines); split expression and special tokens follow from the number of
/// ranks or from a known vocabulary's name within `name`.
TokenizerSpec parse_tiktoken(std::string_view text, const std::string& name);

/// A tokenizer.json that Hugging Face `tokenizers` reads: the tokens, the merges, <|endoftext|> as `spec.eod`.
std::string format_tokenizer_json(const TokenizerSpec& spec);

/// The 256 bytes and <|endoftext|> as 256.
TokenizerSpec bytes_tokenizer_spec();

}  // namespace sluice
