#pragma once

#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "configs/train.pb.h"
#include "kernels/core/tensor.h"

namespace sluice {

/// One case of tests/golden: a safetensors file of f64 and i32 tensors with its model configuration.
class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    ENSURE(in, path, ": cannot be read");
    std::stringstream text;
    text << in.rdbuf();
    bytes_ = text.str();
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes_.data(), sizeof header_bytes);
    header_ = nlohmann::json::parse(bytes_.substr(8, header_bytes));
    begin_ = 8 + header_bytes;
    read_config(nlohmann::json::parse(header_["__metadata__"]["config"].get<std::string>()));
  }

  const ModelConfig& model() const { return model_; }
  bool has(const std::string& name) const { return header_.contains(name); }

  std::vector<double> numbers(const std::string& name) const { return values<double>(name, "F64"); }
  std::vector<int32_t> integers(const std::string& name) const { return values<int32_t>(name, "I32"); }
  std::vector<int64_t> shape(const std::string& name) const { return header_.at(name).at("shape"); }

 private:
  template <class T>
  std::vector<T> values(const std::string& name, const char* dtype) const {
    const nlohmann::json& entry = header_.at(name);
    ENSURE(entry.at("dtype") == dtype, name, ": expected ", dtype);
    const size_t from = entry["data_offsets"][0], to = entry["data_offsets"][1];
    std::vector<T> out((to - from) / sizeof(T));
    std::memcpy(out.data(), bytes_.data() + begin_ + from, to - from);
    return out;
  }

  void read_config(const nlohmann::json& c) {
    model_.set_hidden_size(c["hidden_size"]);
    model_.set_num_layers(c["num_layers"]);
    model_.set_num_attention_heads(c["num_attention_heads"]);
    model_.set_num_key_value_heads(c["num_key_value_heads"]);
    model_.set_head_dim(c["head_dim"]);
    if (!c["intermediate_size"].is_null()) model_.set_intermediate_size(c["intermediate_size"]);
    model_.set_vocab_size(c["vocab_size"]);
    model_.set_tie_word_embeddings(c["tie_word_embeddings"]);
    model_.set_rope_theta(c["rope_theta"]);
    model_.set_rms_norm_eps(c["rms_norm_eps"]);
    if (c["gate"] != "none") {
      model_.add_gates()->set_granularity(c["gate"] == "headwise" ? GateSpec::HEADWISE : GateSpec::ELEMENTWISE);
    }
    if (c["moe"].is_null()) return;
    MoeConfig& moe = *model_.mutable_moe();
    moe.set_num_experts(c["moe"]["num_experts"]);
    moe.set_top_k(c["moe"]["top_k"]);
    moe.set_moe_intermediate_size(c["moe"]["moe_intermediate_size"]);
    moe.set_norm_topk_prob(c["moe"]["norm_topk_prob"]);
    moe.set_balance_coef(c["moe"]["balance_coef"]);
    moe.set_z_coef(c["moe"]["z_coef"]);
  }

  std::string bytes_;
  nlohmann::json header_;
  size_t begin_ = 0;
  ModelConfig model_;
};

}  // namespace sluice
