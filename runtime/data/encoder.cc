#include "runtime/data/encoder.h"

#include <algorithm>
#include <utility>

#include "kernels/core/error.h"
#include "runtime/data/nfc.h"
#include "runtime/files/utf8.h"

namespace sluice {
namespace {

std::vector<AddedToken> select(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> selected;
  for (const AddedToken& token : tokens) {
    if (token.normalized == normalized) selected.push_back(token);
  }
  return selected;
}

}  // namespace

TokenizerTables::TokenizerTables(TokenizerSpec from, const std::string& name)
    : spec(std::move(from)),
      merges(spec.merges),
      added_before(select(spec.added, false)),
      added_after(select(spec.added, true)),
      byte_ids(256, -1) {
  if (spec.split_regex) split.emplace(*spec.split_regex);
  std::vector<bool> is_added(spec.tokens.size());
  for (const AddedToken& token : spec.added) is_added[static_cast<size_t>(token.id)] = true;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string& token = spec.tokens[id];
    if (token.empty() || is_added[id]) continue;
    if (token.size() == 1) byte_ids[static_cast<unsigned char>(token[0])] = static_cast<int32_t>(id);
    if (spec.whole_words_first) whole_words.emplace(token, static_cast<int32_t>(id));
  }
  const auto missing = std::find(byte_ids.begin(), byte_ids.end(), -1);
  ENSURE(missing == byte_ids.end(), name, ": the vocabulary has no token for byte ", missing - byte_ids.begin(),
         ", so it cannot encode every text");
}

Encoder::Encoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer), tables_(tokenizer_.tables()) {
  if (tables_.split) splitter_.emplace(*tables_.split);
}

void Encoder::encode(std::string_view text, std::vector<int32_t>& out) {
  tables_.added_before.cut(
      text, [&](std::string_view piece) { encode_plain(piece, out); }, [&](int32_t id) { out.push_back(id); });
}

void Encoder::encode_plain(std::string_view text, std::vector<int32_t>& out) {
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    if (valid > 0) encode_utf8(text.substr(0, valid), out);
    text.remove_prefix(valid);
    if (text.empty()) break;
    out.push_back(tables_.byte_ids[static_cast<unsigned char>(text[0])]);
    text.remove_prefix(1);
  }
}

void Encoder::encode_utf8(std::string_view text, std::vector<int32_t>& out) {
  if (tables_.spec.nfc && !is_plainly_nfc(text)) {
    encode_normal(to_nfc(text), out);
  } else {
    encode_normal(text, out);
  }
}

void Encoder::encode_normal(std::string_view text, std::vector<int32_t>& out) {
  tables_.added_after.cut(
      text,
      [&](std::string_view piece) {
        if (!splitter_) return encode_word(piece, out);
        splitter_->split(piece, [&](std::string_view word) { encode_word(word, out); });
      },
      [&](int32_t id) { out.push_back(id); });
}

void Encoder::encode_word(std::string_view word, std::vector<int32_t>& out) {
  const uint64_t hash = WordCache::hash_of(word);
  if (const auto known = cache_.find(word, hash); !known.empty()) {
    out.insert(out.end(), known.begin(), known.end());
    return;
  }
  word_.clear();
  if (const auto whole = tables_.whole_words.find(word); whole != tables_.whole_words.end()) {
    word_.push_back(whole->second);
  } else {
    for (const char c : word) word_.push_back(tables_.byte_ids[static_cast<unsigned char>(c)]);
    merge_word(tables_.merges, word_);
  }
  cache_.insert(word, hash, word_);
  out.insert(out.end(), word_.begin(), word_.end());
}

}  // namespace sluice
