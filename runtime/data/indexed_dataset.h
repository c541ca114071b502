#pragma once

#include <cstdint>
#include <string>

#include "runtime/files/mapped_file.h"

namespace sluice {

/// A Megatron indexed data set, PREFIX.bin (token ids back to back) and PREFIX.idx (where sequences and documents
/// begin), read by mmap. The index is checked in full when opened: every header field, length, offset and document
/// boundary; Error names the file and the field. Token ids are checked when read. Safe to read from several threads.
class IndexedDataset {
 public:
  explicit IndexedDataset(std::string prefix);

  const std::string& prefix() const { return prefix_; }
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }
  int64_t sequences() const { return sequences_; }
  /// 2 (uint16) or 4 (int32).
  int64_t token_bytes() const { return token_bytes_; }

  /// First token of document `d` in the stream of all tokens; tokens() for d = documents().
  int64_t document_start(int64_t d) const;
  /// Tokens that another one of their document precedes: what can be predicted.
  int64_t targets() const;
  /// The document that token `token` < tokens() belongs to.
  int64_t document_of(int64_t token) const;

  /// XXH3 of the index and of parts of the tokens (256 blocks of 16 KiB from the first to the last), which tells the
  /// set from others.
  uint64_t fingerprint() const;

  /// Copies tokens [begin, begin + count) to `out`. Throws Error naming file, document, position and id when an id is
  /// not below `vocab_size`.
  void read(int64_t begin, int64_t count, int64_t vocab_size, int32_t* out) const;
  /// Reads the first `count` tokens and gives their largest id, -1 for none. Throws Error as read() does.
  int32_t largest_id(int64_t count, int64_t vocab_size) const;

 private:
  void read_header();
  void check_sequences() const;
  void check_documents() const;
  int64_t sequence_start(int64_t i) const;
  [[noreturn]] void refuse_token(int64_t token, int64_t id, int64_t vocab_size) const;

  std::string prefix_;
  MappedFile index_, tokens_file_;
  int64_t token_bytes_ = 0, sequences_ = 0, documents_ = 0, tokens_ = 0;
  const char* lengths_ = nullptr;         // i32 [sequences]
  const char* offsets_ = nullptr;         // i64 [sequences], bytes into the .bin
  const char* document_index_ = nullptr;  // i64 [documents + 1], sequences
};

}  // namespace sluice
