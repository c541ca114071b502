#include "runtime/data/data_build.h"

#include <cmath>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include <xxhash.h>

#include "kernels/core/error.h"
#include "runtime/data/corpus.h"
#include "runtime/data/encoder.h"
#include "runtime/data/indexed_writer.h"
#include "runtime/data/ordered_pipeline.h"
#include "runtime/data/tokenizer.h"
#include "runtime/files/output_file.h"

namespace sluice {
namespace {

constexpr int kMostWorkers = 1024;
constexpr size_t kChunkBytes = size_t{1} << 18;

struct Chunk {
  std::vector<Document> documents;
  std::vector<int32_t> ids;  // of all documents, each with its end
  std::vector<size_t> ends;  // [documents] into ids
};

void encode_chunk(Encoder& encoder, int32_t eod, Chunk& chunk) {
  for (const Document& document : chunk.documents) {
    encoder.encode(document.text, chunk.ids);
    chunk.ids.push_back(eod);
    chunk.ends.push_back(chunk.ids.size());
  }
}

// One of the two sets.
class SetWriter {
 public:
  SetWriter(std::string prefix, const Tokenizer& tokenizer)
      : prefix_(std::move(prefix)), writer_(prefix_, tokenizer.vocab_size()), documents_(prefix_ + ".documents.txt") {
    meta_.tokenizer_xxh3 = tokenizer.xxh3();
    meta_.vocab = tokenizer.vocab_size();
  }

  void add(std::span<const int32_t> ids, const Document& document) {
    writer_.add(ids);
    meta_.bytes += static_cast<int64_t>(document.text.size());
    documents_.write(document.identity + "\n");
  }
  int64_t documents() const { return writer_.documents(); }

  DataMeta finish() {
    meta_.documents = writer_.documents();
    meta_.tokens = writer_.tokens();
    writer_.finish();
    documents_.commit();
    write_meta(prefix_, meta_);
    return meta_;
  }

 private:
  std::string prefix_;
  IndexedWriter writer_;
  OutputFile documents_;  // identities in order, one a line
  DataMeta meta_;
};

/// Removes the files of a set that there are, the meta file first, and names them.
std::vector<std::string> remove_set(const std::string& prefix) {
  std::vector<std::string> removed;
  for (const char* ending : {".meta.json", ".idx", ".bin", ".documents.txt"}) {
    const std::string file = prefix + ending;
    std::error_code error;
    if (std::filesystem::remove(file, error)) removed.push_back(file);
    ENSURE(!error, file, ": cannot be removed: ", error.message());
  }
  return removed;
}

void check_options(const DataBuildOptions& options) {
  ENSURE(!options.files.empty(), "data build: expected at least one file, got none");
  ENSURE(options.held_out_percent >= 0 && options.held_out_percent < 100,
         "--held-out: expected a percentage from 0 to below 100, got ", options.held_out_percent);
  ENSURE(options.workers >= 0 && options.workers <= kMostWorkers, "--workers: expected 1 to ", kMostWorkers, ", got ",
         options.workers);
  ENSURE(!options.out.empty(), "--out: expected a prefix, got nothing");
}

}  // namespace

bool is_held_out(const std::string& identity, double percent) {
  return static_cast<double>(XXH3_64bits(identity.data(), identity.size()) % 10000) < std::round(100 * percent);
}

int worker_count(int workers) {
  return workers > 0 ? workers : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

DataBuildResult build_data(const DataBuildOptions& options) {
  check_options(options);
  const int workers = worker_count(options.workers);
  const Tokenizer tokenizer = load_tokenizer(options.tokenizer);
  std::vector<Encoder> encoders;
  for (int worker = 0; worker < workers; ++worker) encoders.emplace_back(tokenizer);

  const double percent = options.held_out_percent;
  create_parent_folder(options.out);
  SetWriter train(options.out, tokenizer);
  std::optional<SetWriter> held_out;
  if (percent > 0) held_out.emplace(options.out + ".heldout", tokenizer);

  CorpusReader reader(options.files);
  run_ordered<Chunk>(
      workers, [&](Chunk& chunk) { return next_chunk(reader, kChunkBytes, chunk.documents); },
      [&](Chunk& chunk, int worker) { encode_chunk(encoders[static_cast<size_t>(worker)], tokenizer.eod(), chunk); },
      [&](const Chunk& chunk) {
        size_t begin = 0;
        for (size_t d = 0; d < chunk.documents.size(); ++d) {
          const Document& document = chunk.documents[d];
          SetWriter& set = held_out && is_held_out(document.identity, percent) ? *held_out : train;
          set.add(std::span(chunk.ids).subspan(begin, chunk.ends[d] - begin), document);
          begin = chunk.ends[d];
        }
      });

  ENSURE(train.documents() > 0, "--held-out: ", percent, " % leaves no document to train on");
  ENSURE(!held_out || held_out->documents() > 0, "--held-out: ", percent, " % of ", train.documents(),
         " documents is none; give more documents or a larger percentage");
  DataBuildResult result;
  result.train = train.finish();
  if (held_out) {
    result.held_out = held_out->finish();
  } else {
    result.removed = remove_set(options.out + ".heldout");
  }
  return result;
}

}  // namespace sluice
