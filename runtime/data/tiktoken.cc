#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer_spec.h"

namespace sluice {
namespace {

struct Special {
  const char* text;
  int32_t id;
};

/// What a rank file does not say. In a file of another number of ranks the special tokens follow the ranks.
struct Family {
  const char* name;
  size_t ranks;
  const char* const* regex;
  std::vector<Special> special;  // the first one ends a document
};

const std::array<Family, 6>& families() {
  static const std::array<Family, 6> known = {{
      {"r50k", 50256, &kGpt2Regex, {{"<|endoftext|>", 50256}}},
      {"gpt2", 50256, &kGpt2Regex, {{"<|endoftext|>", 50256}}},
      {"p50k", 50280, &kGpt2Regex, {{"<|endoftext|>", 50256}}},
      {"cl100k",
       100256,
       &kCl100kRegex,
       {{"<|endoftext|>", 100257},
        {"<|fim_prefix|>", 100258},
        {"<|fim_middle|>", 100259},
        {"<|fim_suffix|>", 100260},
        {"<|endofprompt|>", 100276}}},
      {"o200k", 199998, &kO200kRegex, {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}}},
      {"qwen", 151643, &kQwenRegex, {{"<|endoftext|>", 151643}, {"<|im_start|>", 151644}, {"<|im_end|>", 151645}}},
  }};
  return known;
}

const Family& family_of(size_t ranks, const std::string& name) {
  const std::string_view file = std::string_view(name).substr(name.rfind('/') + 1);
  for (const Family& family : families()) {
    if (family.ranks == ranks) return family;
  }
  for (const Family& family : families()) {
    if (file.find(family.name) != std::string_view::npos) return family;
  }
  throw Error(concat(name, ": ", ranks,
                     " ranks are none of gpt2 (50256), p50k (50280), cl100k (100256), o200k (199998), qwen (151643), "
                     "and the file's name holds none of these, so its split expression is not known"),
              __FILE__, __LINE__);
}

std::optional<std::string> decode_base64(std::string_view text) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string bytes;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size() - padding; ++i) {
    const size_t digit = kDigits.find(text[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (i % 4 != 0) bytes += static_cast<char>(bits >> (6 - i % 4 * 2));
  }
  return bytes;
}

using Ranks = std::unordered_map<std::string, int32_t>;

// Far above any vocabulary; a table of all ranks is made.
constexpr int32_t kLargestRank = 1 << 21;

// One "BASE64 RANK".
void read_entry(std::string_view entry, const std::string& where, Ranks& ranks, TokenizerSpec& spec) {
  const size_t space = std::min(entry.find(' '), entry.size());
  const std::optional<std::string> bytes = decode_base64(entry.substr(0, space));
  const std::string_view digits = entry.substr(std::min(space + 1, entry.size()));
  const char* end = digits.data() + digits.size();
  int32_t rank = -1;
  const auto parsed = std::from_chars(digits.data(), end, rank);
  ENSURE(bytes && parsed.ec == std::errc() && parsed.ptr == end && rank >= 0 && rank < kLargestRank, where,
         ": expected \"BASE64 RANK\", got \"", entry.substr(0, 80), "\"");
  ENSURE(ranks.emplace(*bytes, rank).second, where, ": this token was listed before");
  if (static_cast<size_t>(rank) >= spec.tokens.size()) spec.tokens.resize(static_cast<size_t>(rank) + 1);
  ENSURE(spec.tokens[static_cast<size_t>(rank)].empty(), where, ": rank ", rank, " was used before");
  spec.tokens[static_cast<size_t>(rank)] = *bytes;
}

Ranks read_ranks(std::string_view text, const std::string& name, TokenizerSpec& spec) {
  Ranks ranks;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view entry = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (entry.ends_with('\r')) entry.remove_suffix(1);
    if (!entry.empty()) read_entry(entry, concat(name, ":", line), ranks, spec);
  }
  return ranks;
}

// Any two tokens that add up to a token may merge, at the rank of the whole.
std::vector<Merge> merges_of(const Ranks& ranks) {
  std::vector<Merge> merges;
  for (const auto& [token, rank] : ranks) {
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ranks.find(token.substr(0, cut));
      if (left == ranks.end()) continue;
      const auto right = ranks.find(token.substr(cut));
      if (right != ranks.end()) merges.push_back({left->second, right->second, rank, rank});
    }
  }
  return merges;
}

void add_special_tokens(const Family& family, bool genuine, const std::string& name, TokenizerSpec& spec) {
  auto free_id = static_cast<int32_t>(spec.tokens.size());
  for (const Special& special : family.special) {
    const int32_t id = genuine ? special.id : free_id++;
    if (static_cast<size_t>(id) >= spec.tokens.size()) spec.tokens.resize(static_cast<size_t>(id) + 1);
    ENSURE(spec.tokens[static_cast<size_t>(id)].empty(), name, ": rank ", id, " is reserved for ", special.text);
    spec.tokens[static_cast<size_t>(id)] = special.text;
    spec.added.push_back({special.text, id, false});
  }
  spec.eod = spec.added.front().id;
}

}  // namespace

TokenizerSpec parse_tiktoken(std::string_view text, const std::string& name) {
  TokenizerSpec spec;
  const Ranks ranks = read_ranks(text, name, spec);
  const Family& family = family_of(ranks.size(), name);
  spec.merges = merges_of(ranks);
  spec.whole_words_first = true;
  spec.split_regex = *family.regex;
  add_special_tokens(family, family.ranks == ranks.size(), name, spec);
  return spec;
}

}  // namespace sluice
