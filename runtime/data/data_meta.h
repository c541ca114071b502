#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/data/indexed_dataset.h"

namespace sluice {

/// What PREFIX.meta.json says of a data set.
struct DataMeta {
  uint64_t tokenizer_xxh3 = 0;  ///< written as 16 hexadecimal digits
  int64_t vocab = 0;            ///< ids are below it
  int64_t documents = 0;
  int64_t tokens = 0;  ///< with one end of document each
  int64_t bytes = 0;   ///< of text
};

void write_meta(const std::string& prefix, const DataMeta& meta);

/// Nothing when the file does not exist. Throws Error naming the field when it is not as it should be.
std::optional<DataMeta> read_meta(const std::string& prefix);

/// Throws Error naming the field when the meta file is not that of the data set: other numbers of documents or tokens,
/// or no text where there is something to predict.
void check_counts(const DataMeta& meta, const IndexedDataset& set);

/// Throws Error naming both when the data set was built with another tokenizer than the one whose hash is given.
void check_tokenizer(const std::string& prefix, const DataMeta& meta, const std::string& tokenizer, uint64_t xxh3);

}  // namespace sluice
