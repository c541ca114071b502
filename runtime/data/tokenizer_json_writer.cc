#include <nlohmann/json.hpp>

#include "runtime/data/byte_alphabet.h"
#include "runtime/data/tokenizer_spec.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

Json pre_tokenizer_of(const TokenizerSpec& spec, const Json& byte_level) {
  if (!spec.split_regex) return byte_level;
  const Json split = {
      {"type", "Split"}, {"pattern", {{"Regex", *spec.split_regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
}

Json model_of(const TokenizerSpec& spec) {
  Json vocab = Json::object(), merges = Json::array();
  std::vector<std::string> printable;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    printable.push_back(bytes_to_printable(spec.tokens[id]));
    if (static_cast<int32_t>(id) != spec.eod) vocab[printable.back()] = id;
  }
  for (const Merge& m : spec.merges) {
    merges.push_back({printable[static_cast<size_t>(m.left)], printable[static_cast<size_t>(m.right)]});
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", false},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

}  // namespace

std::string format_tokenizer_json(const TokenizerSpec& spec) {
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  const Json eod = {{"id", spec.eod},  {"content", kEndOfDocument}, {"single_word", false}, {"lstrip", false},
                    {"rstrip", false}, {"normalized", false},       {"special", true}};
  const Json file = {{"version", "1.0"},          {"truncation", nullptr},
                     {"padding", nullptr},        {"added_tokens", Json::array({eod})},
                     {"normalizer", nullptr},     {"pre_tokenizer", pre_tokenizer_of(spec, byte_level)},
                     {"post_processor", nullptr}, {"decoder", byte_level},
                     {"model", model_of(spec)}};
  return file.dump(1) + "\n";
}

TokenizerSpec bytes_tokenizer_spec() {
  TokenizerSpec spec;
  for (int b = 0; b < 256; ++b) spec.tokens.emplace_back(1, static_cast<char>(b));
  spec.tokens.emplace_back(kEndOfDocument);
  spec.eod = 256;
  spec.added = {{kEndOfDocument, 256, false}};
  return spec;
}

}  // namespace sluice
