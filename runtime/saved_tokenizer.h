#pragma once

#include <optional>
#include <string>

#include "configs/manifest.pb.h"
#include "configs/train.pb.h"
#include "runtime/data/tokenizer.h"

namespace sluice {

/// The tokenizer.json of a step folder, compared with the manifest's hash; empty when the checkpoint has none.
/// `config` is the checkpoint's: a rank file's family may follow from the name that it had. Throws Error when the file
/// is missing or damaged, or has ids that the model lacks.
std::optional<Tokenizer> saved_tokenizer(const std::string& step_dir, const Manifest& manifest,
                                         const TrainConfig& config);

}  // namespace sluice
