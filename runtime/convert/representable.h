#pragma once

#include <string>
#include <vector>

#include "configs/train.pb.h"

namespace sluice {

/// Hugging Face formats of whole models.
enum class HuggingFaceFormat {
  kQwen3Moe,    ///< transformers' Qwen3-MoE; with a G1 gate, packed as the next one has it, it needs code of its own
  kQwen3Gated,  ///< dense: the released gated Qwen3, without a gate transformers' Qwen3
};

/// qwen3_moe or qwen3_gated.
std::string format_name(HuggingFaceFormat format);

/// Throws Error unless the format holds all that a model computes. Every field of ModelConfig that is not known to be
/// held, or to concern training alone, must have its default. The message names the first that has not, and what would
/// be right.
void check_representable(const ModelConfig& model, HuggingFaceFormat format);

}  // namespace sluice
