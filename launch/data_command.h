#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/data_build.h"

namespace sluice {

/// `sluice data tokenizer`
struct DataTokenizerOptions {
  int64_t vocab = 0;
  std::string out;
  std::vector<std::string> files;
};

/// Trains a byte-level BPE of `vocab` tokens and writes it as a Hugging Face tokenizer.json.
void run_data_tokenizer(const DataTokenizerOptions& options);

/// Encodes text into a data set and prints its sizes.
void run_data_build(const DataBuildOptions& options);

/// Checks the data set PREFIX, every token included, and prints what is in it, as text or as one JSON object.
void run_data_info(const std::string& prefix, bool json);

}  // namespace sluice
