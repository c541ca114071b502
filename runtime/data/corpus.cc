#include "runtime/data/corpus.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {
namespace {

bool is_jsonl(std::string_view path) {
  for (const std::string_view ending : {".gz", ".zst"}) {
    if (path.ends_with(ending)) path.remove_suffix(ending.size());
  }
  return path.ends_with(".jsonl");
}

}  // namespace

CorpusReader::CorpusReader(std::vector<std::string> paths) : paths_(std::move(paths)), buffer_(1 << 17) {}

bool CorpusReader::next(Document& document) {
  while (true) {
    if (lines_) {
      if (next_line(document)) return true;
      ENSURE(documents_in_file_ > 0, paths_[file_ - 1], ": holds no text");
      lines_.reset();
    }
    if (file_ == paths_.size()) return false;
    const std::string& path = paths_[file_++];
    if (is_jsonl(path)) {
      open(path);
      continue;
    }
    const std::unique_ptr<TextInput> input = open_text(path);
    document = {path, ""};
    while (const size_t got = input->read(buffer_.data(), buffer_.size())) document.text.append(buffer_.data(), got);
    ENSURE(!document.text.empty(), path, ": holds no text");
    return true;
  }
}

void CorpusReader::open(const std::string& path) {
  lines_ = open_text(path);
  line_number_ = documents_in_file_ = 0;
  begin_ = end_ = 0;
}

bool CorpusReader::next_line(Document& document) {
  std::string line;
  while (read_line(line)) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    document.identity = concat(paths_[file_ - 1], ":", line_number_);
    document.text = text_of_json(line, document.identity);
    if (document.text.empty()) continue;
    ++documents_in_file_;
    return true;
  }
  return false;
}

bool CorpusReader::read_line(std::string& line) {
  line.clear();
  ++line_number_;
  while (true) {
    const char* from = buffer_.data() + begin_;
    const void* newline = std::memchr(from, '\n', end_ - begin_);
    const size_t bytes = newline ? static_cast<size_t>(static_cast<const char*>(newline) - from) : end_ - begin_;
    line.append(from, bytes);
    begin_ += bytes;
    if (newline) {
      ++begin_;
      return true;
    }
    begin_ = 0;
    end_ = lines_->read(buffer_.data(), buffer_.size());
    if (end_ == 0) return !line.empty();
  }
}

bool next_chunk(CorpusReader& reader, size_t bytes, std::vector<Document>& chunk) {
  size_t held = 0;
  for (Document document; held < bytes && reader.next(document);) {
    held += document.text.size();
    chunk.push_back(std::move(document));
  }
  return !chunk.empty();
}

}  // namespace sluice
