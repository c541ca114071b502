#include "runtime/initial_weights.h"

#include "kernels/core/error.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/reader.h"
#include "runtime/config.h"
#include "runtime/resume.h"

namespace sluice {

void check_heads(const ModelConfig& saved, const ModelConfig& model, const std::string& path) {
  const auto check = [&](const char* field, int64_t there, int64_t here) {
    ENSURE(there == here, "model.", field, "=", here, ", but ", path, " was trained with ", there);
  };
  check("num_attention_heads", saved.num_attention_heads(), model.num_attention_heads());
  check("num_key_value_heads", saved.num_key_value_heads(), model.num_key_value_heads());
  check("head_dim", saved.head_dim(), model.head_dim());
}

void check_width(const ModelConfig& saved, const ModelConfig& model, const std::string& path) {
  // Other parameters have other names.
  if (saved.has_moe() != model.has_moe()) return;
  const bool moe = model.has_moe();
  const int64_t there = moe ? saved.moe().moe_intermediate_size() : saved.intermediate_size();
  const int64_t here = moe ? model.moe().moe_intermediate_size() : model.intermediate_size();
  ENSURE(there == here, "model.", moe ? "moe.moe_intermediate_size=" : "intermediate_size=", here, ", but ", path,
         " was trained with ", there,
         "; neither it nor model.ffn_parity_multiple can change the width of trained layers");
}

std::vector<std::string> load_initial_weights(const InitialCheckpoint& from, const ModelConfig& config,
                                              ModelState& model) {
  CheckpointReader reader(from.path());
  const TrainConfig saved = parse_config(reader.manifest().config(), from.path() + "/manifest.textproto: config");
  const std::string path = "initial_checkpoint.path=" + from.path();
  check_width(saved.model(), config, path);
  reader.check_parameters(model.records);
  check_heads(saved.model(), config, path);
  std::vector<std::string> missing;
  for (const ParameterRecord& record : model.records) {
    if (reader.has(record.name, Piece::MASTER)) {
      reader.read(record, Piece::MASTER, model.weights);
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

void load_initial_moments(const InitialCheckpoint& from, const ModelState& model, Optimizer& optimizer) {
  CheckpointReader reader(from.path());
  for (const ParameterRecord& record : model.records) {
    if (reader.has(record.name, Piece::MASTER)) load_moments(reader, record, optimizer);
  }
  optimizer.set_earlier_updates(moment_updates(reader.manifest()));
}

}  // namespace sluice
