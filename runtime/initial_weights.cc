#include "runtime/initial_weights.h"

#include <cstring>

#include "kernels/core/error.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/config.h"

namespace sluice {
namespace {

/// The whole of a parameter that a rank holds a part of, at the beginning of a buffer.
ParameterRecord whole(const ParameterRecord& part) {
  ParameterRecord record = part;
  record.boxes = {{std::vector<int64_t>(part.global_shape.size(), 0), part.global_shape}};
  record.count = part.global_count();
  record.flat_begin = 0;
  return record;
}

void read_part(CheckpointReader& reader, const ParameterRecord& record, Tensor weights) {
  const int64_t element = dtype_bytes(weights.dtype);
  std::vector<char> bytes(static_cast<size_t>(record.global_count() * element));
  reader.read(whole(record), Piece::MASTER, {bytes.data(), weights.dtype, Device::kCpu, {record.global_count()}});
  char* to = static_cast<char*>(weights.rows(record.flat_begin, record.count).data);
  for_each_run(record.global_shape, record.boxes, [&](int64_t place, int64_t count) {
    std::memcpy(to, bytes.data() + place * element, static_cast<size_t>(count * element));
    to += count * element;
  });
}

}  // namespace

void check_heads(const ModelConfig& saved, const ModelConfig& model, const std::string& path) {
  const auto check = [&](const char* field, int64_t there, int64_t here) {
    ENSURE(there == here, "model.", field, "=", here, ", but ", path, " was trained with ", there);
  };
  check("num_attention_heads", saved.num_attention_heads(), model.num_attention_heads());
  check("num_key_value_heads", saved.num_key_value_heads(), model.num_key_value_heads());
  check("head_dim", saved.head_dim(), model.head_dim());
}

std::vector<std::string> load_initial_weights(const InitialCheckpoint& from, const ModelConfig& config,
                                              ModelState& model) {
  CheckpointReader reader(from.path());
  reader.check_parameters(model.records);
  check_heads(parse_config(reader.manifest().config(), from.path() + "/manifest.textproto: config").model(), config,
              "initial_checkpoint.path=" + from.path());
  std::vector<std::string> missing;
  for (const ParameterRecord& record : model.records) {
    if (reader.has(record.name, Piece::MASTER)) {
      read_part(reader, record, model.weights);
    } else {
      missing.push_back(record.name);
    }
  }
  std::string names;
  for (const std::string& name : missing) names += (names.empty() ? "" : ", ") + name;
  ENSURE(missing.empty() || from.missing() == InitialCheckpoint::INIT, "initial_checkpoint.path=", from.path(),
         " lacks ", names, "; initial_checkpoint.missing=INIT starts them as in a new model");
  return missing;
}

}  // namespace sluice
