#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/text_input.h"

namespace sluice {

struct Document {
  std::string identity;  ///< its file's path; for a line of JSONL path:line
  std::string text;      ///< any bytes
};

/// The documents of a list of files: a file is one, or, in JSONL (.jsonl, also .jsonl.gz and .jsonl.zst), the field
/// `text` of each line. Bytes that are not UTF-8 are kept as they are, in JSONL too.
class CorpusReader {
 public:
  explicit CorpusReader(std::vector<std::string> paths);

  /// False at the end. Throws Error naming the file (and line): missing, damaged, holds no text, or not JSONL.
  bool next(Document& document);

 private:
  bool next_line(Document& document);
  bool read_line(std::string& line);
  void open(const std::string& path);

  std::vector<std::string> paths_;
  size_t file_ = 0;  // the next one to open
  std::unique_ptr<TextInput> lines_;
  int64_t line_number_ = 0, documents_in_file_ = 0;
  std::vector<char> buffer_;
  size_t begin_ = 0, end_ = 0;  // what of buffer_ is not used yet
};

/// Documents up to about `bytes` of text, the unit that threads work on. False when there are none left.
bool next_chunk(CorpusReader& reader, size_t bytes, std::vector<Document>& chunk);

/// The string field `text` of one JSON object, which need not be valid UTF-8. `where` is for messages.
std::string text_of_json(const std::string& line, const std::string& where);

}  // namespace sluice
