#pragma once

#include <cstdint>
#include <string>

#include "runtime/convert/representable.h"

namespace sluice {

struct ExportOptions {
  std::string step_dir, out_dir;
  HuggingFaceFormat format = HuggingFaceFormat::kQwen3Moe;
  int64_t largest_file_bytes = 5'000'000'000;  ///< of tensors; one that is larger has a file of its own
};

struct ExportSummary {
  int64_t parameters = 0;
  int64_t bytes = 0;  ///< of tensors
  int files = 0;      ///< with tensors
  bool has_tokenizer = false;
};

/// Writes a step folder's weights as a Hugging Face model folder: tensors in F32, config.json last, and what a Hugging
/// Face tokenizer needs when the checkpoint holds one. Whatever the model's size, only some megabytes of it are in
/// memory at a time. Throws Error when the format cannot hold the model, the checkpoint is damaged, out_dir is not
/// empty or a file cannot be written; then nothing is left in out_dir.
ExportSummary export_hugging_face(const ExportOptions& options);

/// Writes a step folder's weights, without moments, as a step folder of one shard. Errors as above.
ExportSummary export_weights(const std::string& step_dir, const std::string& out_dir);

}  // namespace sluice
