#include "runtime/saved_tokenizer.h"

#include <filesystem>

#include "kernels/core/error.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/run_data.h"

namespace sluice {

std::optional<Tokenizer> saved_tokenizer(const std::string& step_dir, const Manifest& manifest,
                                         const TrainConfig& config) {
  if (!manifest.has_tokenizer_xxh3()) return std::nullopt;
  const std::string file = step_dir + "/tokenizer.json";
  const std::string text = read_tokenizer_text(manifest, step_dir);
  const std::string original = std::filesystem::path(config.data().tokenizer()).filename().string();
  Tokenizer tokenizer(text, concat(file, " (", original, ")"));
  check_vocabulary(tokenizer, file, config.model());
  return tokenizer;
}

}  // namespace sluice
