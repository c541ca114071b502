#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

struct TokenizerTables;

/// A byte-level BPE tokenizer. decode(encode(x)) == x for any bytes: sequences that are not UTF-8 become the tokens of
/// their bytes. (With a file that asks for NFC: up to normalisation.) Cheap to copy, safe to share between threads.
class Tokenizer {
 public:
  explicit Tokenizer(std::string file_text, const std::string& name);

  std::vector<int32_t> encode(std::string_view text) const;
  /// Throws Error naming an id that the vocabulary lacks.
  std::string decode(std::span<const int32_t> ids) const;

  /// One above the largest id.
  int32_t vocab_size() const;
  /// The id that ends a document.
  int32_t eod() const;
  /// [vocab_size] whether there is a token of that id.
  std::vector<bool> present() const;
  /// Of file_text(); tells whether data and run use the same tokenizer.
  uint64_t xxh3() const { return xxh3_; }
  /// The file, to be kept with a checkpoint; Tokenizer(file_text(), name) gives an equal tokenizer.
  const std::string& file_text() const { return *file_text_; }
  const TokenizerTables& tables() const { return *tables_; }

 private:
  std::shared_ptr<const std::string> file_text_;
  uint64_t xxh3_;
  std::shared_ptr<const TokenizerTables> tables_;
};

/// `spec` is a Hugging Face tokenizer.json, a tiktoken rank file, or the word "bytes" (256 bytes and end of document).
Tokenizer load_tokenizer(const std::string& spec);

}  // namespace sluice
