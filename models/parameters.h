#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "configs/train.pb.h"
#include "kernels/core/stream.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// What a gate's logits are made of: a linear map of the layer's input, a constant, or both. Empty where the
/// configuration has none.
struct GateTensors {
  Tensor weight;  ///< [logits, hidden]
  Tensor bias;    ///< [logits]
};

/// The tensors of the model. One struct type serves weights, gradients and both moments; a tensor that the
/// configuration does not have (qk norms, gates, lm_head when tied) is empty.
struct AttentionTensors {
  Tensor q_proj;                     ///< [query_heads * head_dim, hidden]
  std::array<GateTensors, 5> gates;  ///< G1..G5; logits: heads * head_dim or heads, of G5 hidden
  Tensor k_proj;                     ///< [kv_heads * experts * head_dim, hidden], one expert without switch_head
  Tensor v_proj;                     ///< the same
  Tensor k_router, v_router;         ///< [kv_heads * experts, hidden], with switch_head
  Tensor q_norm, k_norm;             ///< [head_dim]
  Tensor head_norm;                  ///< [head_dim], of the attention output
  Tensor o_proj;                     ///< [hidden, query_heads * head_dim]

  const GateTensors& gate(GateSpec::Position position) const {
    return gates[static_cast<size_t>(position - GateSpec::G1)];
  }
};

/// Dense feed-forward layer, or the experts of a mixture stacked along the first axis.
struct MlpTensors {
  Tensor router;          ///< [experts, hidden]; empty in a dense layer
  Tensor selection_bias;  ///< [experts], without gradient; empty unless the configuration balances by it
  Tensor gate_up_proj;    ///< [2 * width, hidden] or [experts, 2 * width, hidden], gate rows first
  Tensor down_proj;       ///< [hidden, width] or [experts, hidden, width]
};

struct BlockTensors {
  Tensor input_norm;  ///< [hidden]
  AttentionTensors attention;
  Tensor attention_output_norm;  ///< [hidden], with sandwich_norm
  Tensor post_attention_norm;    ///< [hidden]
  MlpTensors mlp;
  MlpTensors shared_expert;   ///< a dense layer beside the experts, where configured
  Tensor shared_expert_gate;  ///< [1, hidden]
  Tensor mlp_output_norm;     ///< [hidden], with sandwich_norm
};

struct ModelTensors {
  Tensor embed_tokens;  ///< [vocab, hidden]
  std::vector<BlockTensors> blocks;
  Tensor norm;     ///< [hidden]
  Tensor lm_head;  ///< [vocab, hidden]; empty when tied

  /// The matrix of the output layer, tied or not.
  Tensor head() const { return lm_head ? lm_head : embed_tokens; }
};

/// Every parameter of the configuration in the order of for_each_parameter, with what `rank` of the mesh holds of it.
/// Stages are those of Stages. Places in the flat buffers are FlatLayout's to give. The sizes must divide as
/// validate_training demands.
std::vector<ParameterRecord> parameter_records(const ModelConfig& config, bool decay_embeddings = true,
                                               const MeshShape& mesh = {}, int rank = 0);

/// Stages of the model in forward order: the embedding, the blocks, the final norm with the output layer.
struct Stages {
  explicit Stages(const ModelConfig& config) : blocks(static_cast<int>(config.num_layers())) {}

  static constexpr int embedding() { return 0; }
  static constexpr int block(int64_t layer) { return 1 + static_cast<int>(layer); }
  int head() const { return 1 + blocks; }

  int blocks;
};

/// The tensors of the model, where `place(record)` gives a view of the elements that this rank holds.
ModelTensors bind_parameters(const ModelConfig& config, const std::vector<ParameterRecord>& records,
                             const std::function<Tensor(const ParameterRecord&)>& place);

/// The same as views into a flat buffer of any dtype.
ModelTensors bind_parameters(const ModelConfig& config, const std::vector<ParameterRecord>& records, Tensor flat);

/// Fills a flat buffer of weights (f32 or f64) by the records' rules: element i of a parameter is a function of (seed,
/// name, i), so every layout starts from the same bits. Padding becomes 0.
void initialise_parameters(const std::vector<ParameterRecord>& records, uint64_t seed, Stream& s, Tensor flat);

/// Whether keys come from pools of experts, as values do with switch_head.
inline bool switches_keys(const ModelConfig& config) {
  return config.has_switch_head() && config.switch_head().of() == SwitchHead::KV;
}

/// Whether every token also goes through a dense layer beside its experts.
inline bool has_shared_expert(const ModelConfig& config) {
  return config.has_moe() && config.moe().shared_expert_intermediate_size() > 0;
}

/// Visits (name, tensor) of every tensor that the configuration has, in the order of parameter_records.
template <class Model, class Visitor>
void for_each_parameter(Model& model, const ModelConfig& config, const Visitor& visit) {
  visit("model.embed_tokens.weight", model.embed_tokens);
  for (size_t i = 0; i < model.blocks.size(); ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    auto& block = model.blocks[i];
    visit(layer + "input_layernorm.weight", block.input_norm);
    visit(layer + "self_attn.q_proj.weight", block.attention.q_proj);
    for (const GateSpec& gate : config.gates()) {
      const std::string name = layer + "self_attn.gates.g" + std::to_string(gate.position());
      auto& tensors = block.attention.gates[static_cast<size_t>(gate.position() - GateSpec::G1)];
      const bool constant = gate.input() == GateSpec::INPUT_INDEPENDENT;
      if (!constant) visit(name + ".weight", tensors.weight);
      if (constant || gate.bias()) visit(name + ".bias", tensors.bias);
    }
    if (switches_keys(config)) visit(layer + "self_attn.k_router.weight", block.attention.k_router);
    visit(layer + "self_attn.k_proj.weight", block.attention.k_proj);
    if (config.has_switch_head()) visit(layer + "self_attn.v_router.weight", block.attention.v_router);
    visit(layer + "self_attn.v_proj.weight", block.attention.v_proj);
    if (config.qk_norm()) {
      visit(layer + "self_attn.q_norm.weight", block.attention.q_norm);
      visit(layer + "self_attn.k_norm.weight", block.attention.k_norm);
    }
    if (config.head_output() == ModelConfig::RMS_NORM) {
      visit(layer + "self_attn.head_norm.weight", block.attention.head_norm);
    }
    visit(layer + "self_attn.o_proj.weight", block.attention.o_proj);
    if (config.sandwich_norm()) visit(layer + "attention_output_norm.weight", block.attention_output_norm);
    visit(layer + "post_attention_layernorm.weight", block.post_attention_norm);
    if (config.has_moe()) {
      visit(layer + "mlp.router.weight", block.mlp.router);
      if (config.moe().selection_bias_rate() > 0) {
        visit(layer + "mlp.router.selection_bias", block.mlp.selection_bias);
      }
      visit(layer + "mlp.experts.gate_up_proj", block.mlp.gate_up_proj);
      visit(layer + "mlp.experts.down_proj", block.mlp.down_proj);
      if (has_shared_expert(config)) {
        visit(layer + "mlp.shared_expert.gate_up_proj.weight", block.shared_expert.gate_up_proj);
        visit(layer + "mlp.shared_expert.down_proj.weight", block.shared_expert.down_proj);
        if (config.moe().shared_expert_gate()) visit(layer + "mlp.shared_expert_gate.weight", block.shared_expert_gate);
      }
    } else {
      visit(layer + "mlp.gate_up_proj.weight", block.mlp.gate_up_proj);
      visit(layer + "mlp.down_proj.weight", block.mlp.down_proj);
    }
    if (config.sandwich_norm()) visit(layer + "mlp_output_norm.weight", block.mlp_output_norm);
  }
  visit("model.norm.weight", model.norm);
  if (!config.tie_word_embeddings()) visit("lm_head.weight", model.lm_head);
}

}  // namespace sluice
