#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/convert/representable.h"

namespace sluice {

struct ImportSummary {
  int64_t parameters = 0;
  bool has_tokenizer = false;
  std::vector<std::string> ignored_keys;  ///< of config.json, without a meaning here
};

/// Writes the model of a Hugging Face folder as a step folder of weights in F32, at step 0, with the configuration that
/// evaluation, generation and initial_checkpoint read. Tensors in F16 and BF16 are widened. Only some megabytes of the
/// weights are in memory at a time. Throws Error naming file and tensor, or key, of what is missing, damaged, too much
/// or not supported, or when out_dir is not empty or cannot be written; then nothing is left in out_dir.
ImportSummary import_hugging_face(const std::string& dir, const std::string& out_dir, HuggingFaceFormat format);

}  // namespace sluice
