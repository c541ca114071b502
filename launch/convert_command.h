#pragma once

#include <string>

namespace sluice {

/// `sluice checkpoint export` and `import`
struct ConvertOptions {
  std::string from, to;  ///< folders
  std::string format;    ///< qwen3_moe, qwen3_gated or sluice
};

/// Writes the weights of a step folder in another format and prints how much that was. Throws Error on an unknown
/// format, and as export_hugging_face does.
void run_checkpoint_export(const ConvertOptions& options);

/// Makes a step folder of a Hugging Face model. Throws Error on a format that it does not read, and as
/// import_hugging_face does.
void run_checkpoint_import(const ConvertOptions& options);

}  // namespace sluice
