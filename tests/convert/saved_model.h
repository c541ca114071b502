#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/checkpoint/reader.h"
#include "runtime/data/tokenizer.h"
#include "runtime/step_folders.h"
#include "tests/runtime/save_now.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {

/// As tiny_config, in f32 and with room for a tokenizer of bytes.
inline TrainConfig small_config(std::vector<std::string> overrides = {}, int world_size = 1) {
  overrides.insert(overrides.begin(), {"precision=F32", "model.vocab_size=260", "data.tokenizer=bytes"});
  return tiny_config(overrides, world_size);
}

/// The same without experts.
inline TrainConfig small_dense_config(std::vector<std::string> overrides = {}) {
  overrides.insert(overrides.begin(), {"model.moe=", "model.intermediate_size=10"});
  return small_config(overrides);
}

/// Trains one step on as many ranks as the mesh has, and returns the step folder.
inline std::string save_model(const TrainConfig& config, const std::string& run_dir,
                              const std::string& tokenizer_text = load_tokenizer("bytes").file_text()) {
  run_ranks(mesh_shape(config).world(), [&](ProcessGroup& world) {
    TinyRun run(config, world);
    run.run(1);
    run.step().wait_for_weights();
    save_now({run_dir, config, run.model(), run.step().optimizer(), run.mesh(), tokenizer_text}, run.stream(), 1);
  });
  return step_folder(run_dir, 1);
}

/// Every parameter of a step folder by name.
inline std::map<std::string, std::vector<float>> weights_of(const std::string& step_dir) {
  CheckpointReader reader(step_dir);
  const TrainConfig config = parse_config(reader.manifest().config(), step_dir);
  std::map<std::string, std::vector<float>> weights;
  for (const ParameterRecord& record : parameter_records(config.model())) {
    std::vector<float>& values = weights[record.name];
    values.resize(static_cast<size_t>(record.count));
    reader.read(record, Piece::MASTER, 0, record.count, {values.data(), DType::kF32, Device::kCpu, {record.count}});
  }
  return weights;
}

/// Names and bytes of the files in a folder.
inline std::map<std::string, std::string> files_of(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream in(entry.path(), std::ios::binary);
    files[entry.path().filename().string()] = {std::istreambuf_iterator<char>(in), {}};
  }
  return files;
}

}  // namespace sluice
