#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/files/output_file.h"

namespace sluice {

/// Writes a Megatron data set, one sequence a document. The files appear when finish() has written both.
class IndexedWriter {
 public:
  /// Ids are stored as uint16 where the vocabulary allows it. Throws Error when PREFIX.bin or PREFIX.idx cannot be
  /// made.
  IndexedWriter(const std::string& prefix, int64_t vocab_size);

  /// Appends one document. Ids are below vocab_size.
  void add(std::span<const int32_t> ids);
  void finish();

  int64_t documents() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t tokens() const { return tokens_; }

 private:
  OutputFile tokens_file_, index_;
  bool narrow_;
  int64_t tokens_ = 0;
  std::vector<int32_t> lengths_;
  std::vector<uint16_t> narrowed_;
};

}  // namespace sluice
