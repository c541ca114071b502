#include "launch/data_command.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/data/bpe_trainer.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/split_pattern.h"
#include "runtime/data/tokenizer.h"
#include "runtime/files/output_file.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void print_built(const std::string& prefix, const DataMeta& meta) {
  fmt::print("{}: {} documents, {} tokens, {} bytes, {:.3f} bytes/token\n", prefix, meta.documents, meta.tokens,
             meta.bytes, static_cast<double>(meta.bytes) / static_cast<double>(meta.tokens));
}

int64_t longest_document(const IndexedDataset& set) {
  int64_t longest = 0;
  for (int64_t d = 0; d < set.documents(); ++d) {
    longest = std::max(longest, set.document_start(d + 1) - set.document_start(d));
  }
  return longest;
}

}  // namespace

void run_data_tokenizer(const DataTokenizerOptions& options) {
  ENSURE(!options.files.empty(), "data tokenizer: expected at least one file, got none");
  ENSURE(!options.out.empty(), "--out: expected a file, got nothing");
  create_parent_folder(options.out);
  OutputFile out(options.out);
  const auto start = std::chrono::steady_clock::now();
  const WordCounts words = count_words(options.files, kQwenRegex, worker_count(0));
  const double counted_s = seconds_since(start);
  const TokenizerSpec spec = train_bpe(words, options.vocab, kQwenRegex);
  out.write(format_tokenizer_json(spec));
  out.commit();
  fmt::print("{}: {} tokens from {} distinct words; counted in {:.1f} s, trained in {:.1f} s\n", options.out,
             spec.tokens.size(), words.size(), counted_s, seconds_since(start) - counted_s);
}

void run_data_build(const DataBuildOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const DataBuildResult result = build_data(options);
  print_built(options.out, result.train);
  if (result.held_out.documents > 0) print_built(options.out + ".heldout", result.held_out);
  for (const std::string& file : result.removed) {
    fmt::print(stderr, "removed {}: its documents are in {} now\n", file, options.out);
  }
  const double megabytes = 1e-6 * static_cast<double>(result.train.bytes + result.held_out.bytes);
  const double taken_s = seconds_since(start);
  fmt::print("{:.1f} MB in {:.1f} s, {:.1f} MB/s\n", megabytes, taken_s, megabytes / taken_s);
}

void run_data_info(const std::string& prefix, bool json) {
  const IndexedDataset set(prefix);
  const std::optional<DataMeta> meta = read_meta(prefix);
  if (meta) {
    check_counts(*meta, set);
  } else {
    fmt::print(stderr, "warning: {}.meta.json is missing; the tokenizer of the data is not known\n", prefix);
  }
  nlohmann::ordered_json info = {
      {"prefix", prefix},
      {"documents", set.documents()},
      {"sequences", set.sequences()},
      {"tokens", set.tokens()},
      {"token_bytes", set.token_bytes()},
      {"longest_document", longest_document(set)},
      {"largest_id", set.largest_id(set.tokens(), meta ? meta->vocab : std::numeric_limits<int32_t>::max())}};
  if (meta) {
    info["vocab"] = meta->vocab;
    info["tokenizer_xxh3"] = hex16(meta->tokenizer_xxh3);
    info["bytes"] = meta->bytes;
  }
  if (json) {
    fmt::print("{}\n", info.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return;
  }
  for (const auto& [name, value] : info.items()) {
    fmt::print("{:<18}{}\n", name, value.is_string() ? value.get<std::string>() : value.dump());
  }
}

}  // namespace sluice
