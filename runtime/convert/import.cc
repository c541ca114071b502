#include "runtime/convert/import.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>

#include "kernels/core/error.h"
#include "models/parameters.h"
#include "models/weight_map.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/config.h"
#include "runtime/convert/hugging_face_config.h"
#include "runtime/convert/hugging_face_folder.h"
#include "runtime/data/tokenizer.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_folder.h"
#include "runtime/files/xxh3.h"
#include "runtime/run_data.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

constexpr int64_t kBufferElements = int64_t{4} << 20;
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

std::string file_text(const std::string& path) { return std::string(MappedFile(path).bytes()); }

/// Fills in what has a default; problems are told of config.json.
void validate(const std::string& path, TrainConfig& config, HuggingFaceFormat format) {
  try {
    validate_training(config, 1);
    check_representable(config.model(), format);
  } catch (const Error& error) {
    throw Error(concat(path, ": ", error.what()), __FILE__, __LINE__);
  }
}

std::optional<Tokenizer> read_tokenizer(const std::string& dir, const ModelConfig& model) {
  const std::string path = dir + "/tokenizer.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  Tokenizer tokenizer(file_text(path), path);
  check_vocabulary(tokenizer, path, model);
  return tokenizer;
}

/// Before a table of that many is made.
void check_tensor_count(const ModelConfig& model, const HuggingFaceFolder& folder, const std::string& dir) {
  const int64_t of_a_layer = 3 * (model.has_moe() ? model.moe().num_experts() : 1);
  const int64_t least = model.num_layers() * of_a_layer;
  ENSURE(least <= folder.tensors(), dir, ": config.json asks for ", least,
         " matrices of feed-forward layers alone, but ", "there are ", folder.tensors(), " tensors");
}

/// Files may hold tied embeddings twice; the copies must be equal.
void check_tied_head(const HuggingFaceFolder& folder, const ForeignTensor& head, const std::string& dir) {
  std::vector<float> a(static_cast<size_t>(std::min(kBufferElements, head.count()))), b(a.size());
  for (int64_t at = 0; at < head.count(); at += kBufferElements) {
    const int64_t count = std::min(kBufferElements, head.count() - at);
    folder.read(kEmbedding, at, count, a.data());
    folder.read(kHead, at, count, b.data());
    ENSURE(std::memcmp(a.data(), b.data(), static_cast<size_t>(count) * sizeof(float)) == 0, dir, ": tensor \"", kHead,
           "\" is not equal to ", kEmbedding, ", but config.json says tie_word_embeddings");
  }
}

void check_tensors(const ModelConfig& model, const HuggingFaceFolder& folder, std::vector<ForeignTensor> tensors,
                   const std::string& dir) {
  const bool head_twice = model.tie_word_embeddings() && folder.has(kHead);
  if (head_twice) tensors.push_back({kHead, {model.vocab_size(), model.hidden_size()}, {}});
  folder.check_holds(tensors);
  folder.check_holds_only(tensors);
  if (head_twice) check_tied_head(folder, tensors.back(), dir);
}

Manifest write_weights(const HuggingFaceFolder& folder, const std::vector<ParameterRecord>& records,
                       const std::vector<ForeignTensor>& tensors, const std::string& out_dir) {
  const std::map<std::string, std::vector<WeightRun>> sources = inverted(tensors);
  ShardWriter shard(out_dir, shard_file_name(0, 1), weight_pieces(records, DType::kF32));
  std::vector<float> buffer(kBufferElements);
  for (const ParameterRecord& record : records) {
    for (const WeightRun& run : sources.at(record.name)) {
      for (int64_t at = run.first, end = run.first + run.count; at < end; at += kBufferElements) {
        const int64_t count = std::min(kBufferElements, end - at);
        folder.read(run.tensor, at, count, buffer.data());
        shard.write(buffer.data(), static_cast<size_t>(count) * sizeof(float));
      }
    }
  }
  return shard.finish();
}

}  // namespace

ImportSummary import_hugging_face(const std::string& dir, const std::string& out_dir, HuggingFaceFormat format) {
  const std::string config_path = dir + "/config.json";
  ImportedConfig imported = parse_hugging_face_config(file_text(config_path), config_path, format);
  TrainConfig& config = imported.config;
  const std::optional<Tokenizer> tokenizer = read_tokenizer(dir, config.model());
  if (tokenizer) config.mutable_data()->set_tokenizer("tokenizer.json");
  validate(config_path, config, format);
  const HuggingFaceFolder folder(dir);
  check_tensor_count(config.model(), folder, dir);
  const std::vector<ParameterRecord> records = parameter_records(config.model());
  const std::vector<ForeignTensor> tensors = hugging_face_tensors(config.model());
  check_tensors(config.model(), folder, tensors, dir);

  check_outside_checkpoints(out_dir);
  OutputFolder out(out_dir);
  Manifest manifest = write_weights(folder, records, tensors, out.path());
  manifest.set_step(0);
  manifest.mutable_data_state()->set_sample_cursor(0);
  manifest.set_config(config_text(config));
  manifest.set_world_size(1);
  if (tokenizer) {
    out.write("tokenizer.json", tokenizer->file_text());
    manifest.set_tokenizer_xxh3(hex16(tokenizer->xxh3()));
  }
  write_manifest(out.path(), manifest);
  out.keep();
  ImportSummary summary{0, tokenizer.has_value(), std::move(imported.ignored)};
  for (const ParameterRecord& record : records) summary.parameters += record.global_count();
  return summary;
}

}  // namespace sluice
