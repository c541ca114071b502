#include "runtime/convert/export.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "models/parameters.h"
#include "models/weight_map.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/config.h"
#include "runtime/convert/hugging_face_config.h"
#include "runtime/data/tokenizer_spec.h"
#include "runtime/files/output_folder.h"
#include "runtime/saved_tokenizer.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

using Json = nlohmann::ordered_json;

/// A checkpoint whose weights are read in portions, by the name of the parameter.
class Source {
 public:
  explicit Source(const std::string& step_dir)
      : reader_(step_dir),
        config_(parse_config(reader_.manifest().config(), step_dir + "/manifest.textproto: config")),
        tokenizer_(saved_tokenizer(step_dir, reader_.manifest(), config_)) {
    validate_model(config_.model());
    records_ = parameter_records(config_.model());
    reader_.check_parameters(records_);
    for (const ParameterRecord& record : records_) {
      ENSURE(reader_.has(record.name, Piece::MASTER), step_dir, ": holds no weights of ", record.name);
      by_name_[record.name] = &record;
    }
  }

  const Manifest& manifest() const { return reader_.manifest(); }
  const TrainConfig& config() const { return config_; }
  const std::optional<Tokenizer>& tokenizer() const { return tokenizer_; }
  const std::vector<ParameterRecord>& records() const { return records_; }

  /// Calls take(data, bytes) of successive portions of a run, as `dtype`.
  template <class Take>
  void stream(const WeightRun& run, DType dtype, const Take& take) {
    const ParameterRecord& record = *by_name_.at(run.tensor);
    buffer_.resize(kBufferBytes);
    const int64_t most = kBufferBytes / dtype_bytes(dtype);
    for (int64_t at = run.first, end = run.first + run.count; at < end; at += most) {
      const int64_t count = std::min(most, end - at);
      const Tensor portion{buffer_.data(), dtype, Device::kCpu, {count}};
      reader_.read(record, Piece::MASTER, at, at + count, portion);
      take(portion.data, static_cast<size_t>(portion.bytes()));
    }
  }

 private:
  static constexpr int64_t kBufferBytes = int64_t{16} << 20;

  CheckpointReader reader_;
  TrainConfig config_;
  std::optional<Tokenizer> tokenizer_;
  std::vector<ParameterRecord> records_;
  std::map<std::string, const ParameterRecord*> by_name_;
  std::vector<char> buffer_;
};

int64_t bytes_of(const ForeignTensor& tensor) { return tensor.count() * dtype_bytes(DType::kF32); }

/// In order, as many to a file as fit.
std::vector<std::vector<ForeignTensor>> split(std::vector<ForeignTensor> tensors, int64_t largest_file_bytes) {
  std::vector<std::vector<ForeignTensor>> files;
  int64_t bytes = 0;
  for (ForeignTensor& tensor : tensors) {
    const int64_t more = bytes_of(tensor);
    if (files.empty() || more > largest_file_bytes - bytes) files.emplace_back(), bytes = 0;
    bytes += more;
    files.back().push_back(std::move(tensor));
  }
  return files;
}

std::string file_name(size_t index, size_t files) {
  if (files == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, files);
  return name;
}

void write_file(Source& source, const std::string& path, const std::vector<ForeignTensor>& tensors) {
  std::vector<SafetensorsEntry> entries;
  for (const ForeignTensor& tensor : tensors) entries.push_back({tensor.name, "F32", tensor.shape, 0, 0});
  SafetensorsWriter writer(path, std::move(entries));
  for (const ForeignTensor& tensor : tensors) {
    for (const WeightRun& run : tensor.runs) {
      source.stream(run, DType::kF32, [&](const void* data, size_t bytes) { writer.write(data, bytes); });
    }
  }
  writer.commit();
}

/// Which file each tensor is in.
std::string index_text(const std::vector<std::vector<ForeignTensor>>& files, int64_t bytes) {
  Json map = Json::object();
  for (size_t i = 0; i < files.size(); ++i) {
    for (const ForeignTensor& tensor : files[i]) map[tensor.name] = file_name(i, files.size());
  }
  return Json{{"metadata", {{"total_size", bytes}}}, {"weight_map", std::move(map)}}.dump(2) + "\n";
}

/// Returns whether the tokenizer is one that Hugging Face can read; a tiktoken rank file is not.
bool write_tokenizer(const Tokenizer& tokenizer, const OutputFolder& out) {
  const std::string& text = tokenizer.file_text();
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos || text[first] != '{') return false;
  out.write("tokenizer.json", text);
  out.write("tokenizer_config.json", Json{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                          {"eos_token", kEndOfDocument},
                                          {"clean_up_tokenization_spaces", false}}
                                             .dump(2) +
                                         "\n");
  return true;
}

ExportSummary sizes(const std::vector<ForeignTensor>& tensors) {
  ExportSummary summary;
  for (const ForeignTensor& tensor : tensors) {
    summary.parameters += tensor.count();
    summary.bytes += bytes_of(tensor);
  }
  return summary;
}

}  // namespace

ExportSummary export_hugging_face(const ExportOptions& options) {
  Source source(options.step_dir);
  const TrainConfig& config = source.config();
  check_representable(config.model(), options.format);
  std::optional<int32_t> end_token;
  if (source.tokenizer()) end_token = source.tokenizer()->eod();
  std::vector<ForeignTensor> tensors = hugging_face_tensors(config.model());
  ExportSummary summary = sizes(tensors);
  check_outside_checkpoints(options.out_dir);
  OutputFolder out(options.out_dir);
  const std::vector<std::vector<ForeignTensor>> files = split(std::move(tensors), options.largest_file_bytes);
  for (size_t i = 0; i < files.size(); ++i) write_file(source, out / file_name(i, files.size()), files[i]);
  if (files.size() > 1) out.write("model.safetensors.index.json", index_text(files, summary.bytes));
  if (source.tokenizer()) summary.has_tokenizer = write_tokenizer(*source.tokenizer(), out);
  if (end_token) out.write("generation_config.json", Json{{"eos_token_id", *end_token}}.dump(2) + "\n");
  // Without it a folder is no model.
  out.write("config.json", hugging_face_config(config, options.format, end_token));
  out.keep();
  summary.files = static_cast<int>(files.size());
  return summary;
}

ExportSummary export_weights(const std::string& step_dir, const std::string& out_dir) {
  Source source(step_dir);
  const auto& pieces = source.manifest().pieces();
  const bool wide =
      std::any_of(pieces.begin(), pieces.end(), [](const Piece& piece) { return piece.dtype() == Piece::F64; });
  const DType dtype = wide ? DType::kF64 : DType::kF32;
  check_outside_checkpoints(out_dir);
  OutputFolder out(out_dir);
  ExportSummary summary{0, 0, 1, source.tokenizer().has_value()};
  ShardWriter shard(out.path(), shard_file_name(0, 1), weight_pieces(source.records(), dtype));
  for (const ParameterRecord& record : source.records()) {
    source.stream({record.name, 0, record.global_count()}, dtype,
                  [&](const void* data, size_t bytes) { shard.write(data, bytes); });
    summary.parameters += record.global_count();
    summary.bytes += record.global_count() * dtype_bytes(dtype);
  }
  Manifest manifest = source.manifest();
  manifest.clear_shards();
  manifest.clear_pieces();
  manifest.MergeFrom(shard.finish());
  if (source.tokenizer()) out.write("tokenizer.json", source.tokenizer()->file_text());
  write_manifest(out.path(), manifest);
  out.keep();
  return summary;
}

}  // namespace sluice
