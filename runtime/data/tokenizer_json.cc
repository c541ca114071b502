#include <algorithm>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/data/byte_alphabet.h"
#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer_spec.h"
#include "runtime/files/json_depth.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

/// Reads one file; every message begins with its name and the field.
class Reader {
 public:
  Reader(const Json& file, const std::string& name) : file_(file), name_(name) {}

  TokenizerSpec read() {
    ENSURE(file_.is_object() && file_.contains("model"), name_, ": model: missing; expected a tokenizer.json");
    const Json& model = file_["model"];
    read_model_options(model);
    read_vocabulary(field(model, "model.vocab", "vocab"));
    read_merges(field(model, "model.merges", "merges"));
    read_added_tokens();
    read_normalizer();
    read_pre_tokenizer();
    return std::move(spec_);
  }

 private:
  const Json& field(const Json& parent, const std::string& path, const char* key) const {
    ENSURE(parent.is_object() && parent.contains(key), name_, ": ", path, ": missing");
    return parent[key];
  }

  static bool is_set(const Json& parent, const char* key) {
    if (!parent.is_object() || !parent.contains(key)) return false;
    const Json& value = parent[key];
    return !(value.is_null() || value == false || value == "" || value == 0.0);
  }

  static std::string type_of(const Json& part) {
    return part.is_object() && part.contains("type") && part["type"].is_string() ? part["type"].get<std::string>() : "";
  }

  void read_model_options(const Json& model) {
    ENSURE(!model.contains("type") || type_of(model) == "BPE", name_, ": model.type: expected BPE, got ",
           model["type"].dump());
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
      ENSURE(!is_set(model, key), name_, ": model.", key, ": ", model[key].dump(),
             " is not supported; expected a byte-level BPE of the GPT-2 and Qwen family");
    }
    spec_.whole_words_first = is_set(model, "ignore_merges");
  }

  int32_t read_id(const Json& value, const std::string& path) const {
    ENSURE(value.is_number_integer() && value >= 0 && value < kLargestVocabulary, name_, ": ", path,
           ": expected an id of 0 or more, got ", value.dump());
    return value.get<int32_t>();
  }

  void put_token(int32_t id, std::string bytes) {
    if (static_cast<size_t>(id) >= spec_.tokens.size()) spec_.tokens.resize(static_cast<size_t>(id) + 1);
    spec_.tokens[static_cast<size_t>(id)] = std::move(bytes);
  }

  void read_vocabulary(const Json& vocab) {
    ENSURE(vocab.is_object() && !vocab.empty(), name_, ": model.vocab: expected an object of tokens");
    ids_.reserve(vocab.size());
    for (const auto& [token, value] : vocab.items()) {
      const int32_t id = read_id(value, "model.vocab[" + token + "]");
      ENSURE(static_cast<size_t>(id) >= spec_.tokens.size() || spec_.tokens[static_cast<size_t>(id)].empty(), name_,
             ": model.vocab[", token, "]: id ", id, " is used twice");
      std::optional<std::string> bytes = printable_to_bytes(token);
      // Special tokens may lie in the vocabulary as plain text.
      put_token(id, bytes ? std::move(*bytes) : token);
      if (bytes) ids_.emplace(token, id);
    }
  }

  int32_t id_of(const std::string& token, size_t merge) const {
    const auto id = ids_.find(token);
    ENSURE(id != ids_.end(), name_, ": model.merges[", merge, "]: ", token, " is not in model.vocab");
    return id->second;
  }

  void read_merges(const Json& merges) {
    ENSURE(merges.is_array(), name_, ": model.merges: expected a list");
    spec_.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const auto [left, right] = read_pair(merges[i], i);
      spec_.merges.push_back({id_of(left, i), id_of(right, i), id_of(left + right, i), static_cast<int32_t>(i)});
    }
  }

  // Written as "left right" or as ["left", "right"].
  std::pair<std::string, std::string> read_pair(const Json& merge, size_t i) const {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = std::min(text.find(' '), text.size());
      return {text.substr(0, space), text.substr(std::min(space + 1, text.size()))};
    }
    ENSURE(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(), name_,
           ": model.merges[", i, "]: expected two tokens, got ", merge.dump());
    return {merge[0], merge[1]};
  }

  void read_added_tokens() {
    const Json tokens = file_.value("added_tokens", Json::array());
    ENSURE(tokens.is_array(), name_, ": added_tokens: expected a list");
    for (size_t i = 0; i < tokens.size(); ++i) {
      AddedToken token = read_added_token(tokens[i], concat("added_tokens[", i, "]"));
      const auto id = static_cast<size_t>(token.id);
      ENSURE(id >= spec_.tokens.size() || spec_.tokens[id].empty() || spec_.tokens[id] == token.text, name_,
             ": added_tokens[", i, "].id: ", id, " is the id of another token too");
      put_token(token.id, token.text);
      spec_.added.push_back(std::move(token));
    }
    const auto eod = std::find_if(spec_.added.begin(), spec_.added.end(),
                                  [](const AddedToken& token) { return token.text == kEndOfDocument; });
    ENSURE(eod != spec_.added.end(), name_, ": added_tokens: ", kEndOfDocument, ", which ends a document, is missing");
    spec_.eod = eod->id;
  }

  AddedToken read_added_token(const Json& entry, const std::string& path) const {
    const Json& content = field(entry, path + ".content", "content");
    ENSURE(content.is_string() && content != "", name_, ": ", path, ".content: expected text, got ", content.dump());
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      ENSURE(!is_set(entry, key), name_, ": ", path, ".", key, ": true is not supported");
    }
    return {content, read_id(field(entry, path + ".id", "id"), path + ".id"), is_set(entry, "normalized")};
  }

  void read_normalizer() {
    if (!is_set(file_, "normalizer")) return;
    const Json& normalizer = file_["normalizer"];
    const bool sequence = type_of(normalizer) == "Sequence";
    const Json parts = sequence ? normalizer.value("normalizers", Json::array()) : Json::array({normalizer});
    for (const Json& part : parts) {
      ENSURE(type_of(part) == "NFC", name_, ": normalizer: expected null or NFC, got ", part.dump());
      spec_.nfc = true;
    }
  }

  void read_pre_tokenizer() {
    const Json pre_tokenizer = file_.value("pre_tokenizer", Json());
    const bool sequence = type_of(pre_tokenizer) == "Sequence";
    const Json parts = sequence ? pre_tokenizer.value("pretokenizers", Json::array()) : Json::array({pre_tokenizer});
    bool byte_level = false;
    for (const Json& part : parts) {
      const std::string type = type_of(part);
      ENSURE(!byte_level && (type == "Split" || type == "ByteLevel"), name_,
             ": pre_tokenizer: expected Split and ByteLevel, got ", part.dump());
      if (type == "Split") {
        read_split(part);
      } else {
        byte_level = true;
        ENSURE(!part.value("add_prefix_space", true), name_,
               ": pre_tokenizer.add_prefix_space: expected false, got true");
        if (part.value("use_regex", true)) set_regex(kGpt2Regex);
      }
    }
    ENSURE(byte_level, name_, ": pre_tokenizer: ByteLevel is missing");
  }

  void read_split(const Json& split) {
    const Json& pattern = field(split, "pre_tokenizer.pattern", "pattern");
    ENSURE(pattern.is_object() && pattern.contains("Regex") && pattern["Regex"].is_string(), name_,
           ": pre_tokenizer.pattern: expected {\"Regex\": ...}, got ", pattern.dump());
    ENSURE(split.value("behavior", "") == "Isolated" && !is_set(split, "invert"), name_,
           ": pre_tokenizer: expected behavior Isolated, not inverted, got ", split.dump());
    set_regex(pattern["Regex"]);
  }

  void set_regex(const std::string& regex) {
    ENSURE(!spec_.split_regex, name_, ": pre_tokenizer: more than one split expression is not supported");
    spec_.split_regex = regex;
  }

  const Json& file_;
  const std::string& name_;
  TokenizerSpec spec_;
  std::unordered_map<std::string, int32_t> ids_;
};

}  // namespace

TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& name) {
  try {
    const Json file = Json::parse(text, depth_limit(name));
    return Reader(file, name).read();
  } catch (const Json::exception& e) {
    throw Error(concat(name, ": not a tokenizer.json: ", e.what()), __FILE__, __LINE__);
  }
}

}  // namespace sluice
