#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/convert/representable.h"

namespace sluice {

/// config.json of a model that the format can hold (check_representable). max_position_embeddings is the length of
/// training or, with YaRN, what it stretches to; router_aux_loss_coef is balance_coef as it stands, though transformers
/// counts top_k times as much, and once for all layers.
///   end_token  id that ends a document, where a tokenizer tells it
std::string hugging_face_config(const TrainConfig& config, HuggingFaceFormat format, std::optional<int32_t> end_token);

struct ImportedConfig {
  /// The model in F32, and what validate_training asks for beside it: training that changes nothing, on no data.
  TrainConfig config;
  std::vector<std::string> ignored;  ///< keys that mean nothing here
};

/// Reads a config.json. `path` names it in messages. Throws Error naming key and value of what is missing, of another
/// type, or says something that our model cannot be.
ImportedConfig parse_hugging_face_config(const std::string& text, const std::string& path, HuggingFaceFormat format);

}  // namespace sluice
