#include "runtime/data/tokenizer.h"

#include <utility>

#include <xxhash.h>

#include "kernels/core/error.h"
#include "runtime/data/encoder.h"
#include "runtime/data/tokenizer_spec.h"
#include "runtime/files/mapped_file.h"

namespace sluice {
namespace {

constexpr const char* kBytes = "bytes";

uint64_t hash_of(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

std::string read_spec(const std::string& spec) {
  if (spec == kBytes) return format_tokenizer_json(bytes_tokenizer_spec());
  return std::string(MappedFile(spec).bytes());
}

TokenizerSpec parse(const std::string& text, const std::string& name) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  ENSURE(first != std::string::npos, name, ": the tokenizer file is empty");
  return text[first] == '{' ? parse_tokenizer_json(text, name) : parse_tiktoken(text, name);
}

}  // namespace

Tokenizer::Tokenizer(std::string file_text, const std::string& name)
    : file_text_(std::make_shared<const std::string>(std::move(file_text))),
      xxh3_(hash_of(*file_text_)),
      tables_(std::make_shared<const TokenizerTables>(parse(*file_text_, name), name)) {}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  Encoder(*this).encode(text, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  const std::vector<std::string>& tokens = tables_->spec.tokens;
  std::string text;
  for (const int32_t id : ids) {
    ENSURE(id >= 0 && static_cast<size_t>(id) < tokens.size() && !tokens[static_cast<size_t>(id)].empty(), "token id ",
           id, " is not in the tokenizer's vocabulary of ", tokens.size());
    text += tokens[static_cast<size_t>(id)];
  }
  return text;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(tables_->spec.tokens.size()); }

int32_t Tokenizer::eod() const { return tables_->spec.eod; }

std::vector<bool> Tokenizer::present() const {
  std::vector<bool> present;
  for (const std::string& token : tables_->spec.tokens) present.push_back(!token.empty());
  return present;
}

Tokenizer load_tokenizer(const std::string& spec) { return Tokenizer(read_spec(spec), spec); }

}  // namespace sluice
