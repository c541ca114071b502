#pragma once

#include <string>

#include "runtime/data/indexed_writer.h"
#include "runtime/data/tokenizer.h"
#include "tests/temp_folder.h"

namespace sluice {

/// A data set of three documents of numbered sentences, in the tokens of a tokenizer.
inline IndexedDataset made_up_text(const TempFolder& folder, const Tokenizer& tokenizer) {
  IndexedWriter writer(folder / "text", tokenizer.vocab_size());
  for (const std::string name : {"one", "two", "three"}) {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "Sentence " + std::to_string(i) + " of document " + name + ". ";
    std::vector<int32_t> ids = tokenizer.encode(text);
    ids.push_back(tokenizer.eod());
    writer.add(ids);
  }
  writer.finish();
  return IndexedDataset(folder / "text");
}

}  // namespace sluice
