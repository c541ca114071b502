#pragma once

#include <map>
#include <string>
#include <vector>

#include "configs/train.pb.h"

namespace sluice {

/// Elements of a tensor that lie together.
struct WeightRun {
  std::string tensor;
  int64_t first = 0, count = 0;

  bool operator==(const WeightRun&) const = default;
};

/// A tensor of another format, made of runs of our parameters, back to back.
struct ForeignTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<WeightRun> runs;

  int64_t count() const;
};

/// The tensors of a model in Hugging Face's naming, in the order of parameter_records: qwen3_moe with moe, the released
/// gated Qwen3 without. Rows of q_proj come a key-value head at a time: those of its query heads, then those of their
/// gate, if there is a G1. Experts and the halves of gate_up_proj are tensors of their own.
/// Throws an internal Error when the model has a parameter that these formats lack.
std::vector<ForeignTensor> hugging_face_tensors(const ModelConfig& config);

/// The same the other way round: the runs of foreign tensors that each of our parameters is made of, back to back.
std::map<std::string, std::vector<WeightRun>> inverted(const std::vector<ForeignTensor>& tensors);

}  // namespace sluice
