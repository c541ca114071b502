#pragma once

#include <cmath>
#include <complex>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "configs/train.pb.h"
#include "tests/reference/activations.h"
#include "tests/reference/attention.h"
#include "tests/reference/cross_entropy.h"
#include "tests/reference/embedding.h"
#include "tests/reference/gemm.h"
#include "tests/reference/permute.h"
#include "tests/reference/rms_norm.h"
#include "tests/reference/rope.h"
#include "tests/reference/router.h"
#include "tests/reference/swiglu.h"
#include "tests/reference/switch_heads.h"

namespace sluice::reference {

/// Whole parameters by name.
template <class T>
using Weights = std::map<std::string, std::vector<T>>;

/// Documents packed one after another.
struct Text {
  std::vector<int32_t> tokens, targets, positions, document_offsets;
};

/// The loss of a whole model by the equations of its configuration, a scalar at a time.
///   T  double or std::complex<double>
template <class T>
class Model {
 public:
  using Values = std::vector<T>;

  Model(const ModelConfig& config, const Text& text) : c_(config), text_(text), tokens_(text.tokens.size()) {}

  /// Mean over targets, with the balance and z losses of every layer, as one micro-step has it.
  T loss(const Weights<T>& weights) {
    w_ = &weights;
    router_loss_ = 0;
    Values residual = embedding(text_.tokens, at("model.embed_tokens.weight"), hidden());
    for (int64_t i = 0; i < c_.num_layers(); ++i) {
      layer_ = "model.layers." + std::to_string(i) + ".";
      residual = plus(residual, attention_layer(norm(residual, layer_ + "input_layernorm.weight")));
      residual = plus(residual, feed_forward(norm(residual, layer_ + "post_attention_layernorm.weight")));
    }
    const std::string head = c_.tie_word_embeddings() ? "model.embed_tokens.weight" : "lm_head.weight";
    Values logits = linear(norm(residual, "model.norm.weight"), at(head));
    if (c_.has_mup()) {
      for (T& logit : logits) logit *= static_cast<double>(c_.mup().base_hidden_size()) / static_cast<double>(hidden());
    }
    T sum = 0;
    double targets = 0;
    for (const T& loss : cross_entropy(logits, text_.targets, static_cast<size_t>(c_.vocab_size()))) sum += loss;
    for (const int32_t target : text_.targets) targets += target >= 0;
    return sum / targets + router_loss_;
  }

 private:
  size_t hidden() const { return static_cast<size_t>(c_.hidden_size()); }
  size_t query_heads() const { return static_cast<size_t>(c_.num_attention_heads()); }
  size_t kv_heads() const { return static_cast<size_t>(c_.num_key_value_heads()); }
  size_t head_dim() const { return static_cast<size_t>(c_.head_dim()); }
  const Values& at(const std::string& name) const { return w_->at(name); }
  const Values& of_layer(const std::string& name) const { return w_->at(layer_ + name); }
  bool has(const std::string& name) const { return w_->count(layer_ + name) > 0; }

  /// x [tokens, in] times w [out, in] transposed.
  Values linear(const Values& x, const Values& w) const {
    const int64_t in = static_cast<int64_t>(x.size() / tokens_), out = static_cast<int64_t>(w.size()) / in;
    return gemm({false, true, static_cast<int64_t>(tokens_), out, in}, x, w);
  }
  Values norm(const Values& x, const std::string& weight) const { return rms_norm(x, at(weight), c_.rms_norm_eps()); }
  static Values plus(Values a, const Values& b) {
    for (size_t i = 0; i < a.size(); ++i) a[i] += b.at(i);
    return a;
  }

  const GateSpec* gate_at(GateSpec::Position position) const {
    for (const GateSpec& gate : c_.gates()) {
      if (gate.position() == position) return &gate;
    }
    return nullptr;
  }

  static T activate(GateSpec::Activation activation, const T& z) {
    switch (activation) {
      case GateSpec::SIGMOID:
        return sigmoid(z);
      case GateSpec::SILU:
        return silu(z);
      case GateSpec::NS_SIGMOID:
        return ns_sigmoid(z);
      case GateSpec::TWICE_SIGMOID:
        return 2.0 * sigmoid(z);
      case GateSpec::IDENTITY:
        break;
    }
    return z;
  }

  /// The score of a gate for a token, head and channel; x [tokens, hidden].
  T score(const GateSpec& gate, const Values& logits, size_t heads, size_t channels, size_t token, size_t head,
          size_t channel) const {
    const auto logit = [&](size_t h) { return logits[(token * heads + h) * channels + channel]; };
    if (gate.sharing() == GateSpec::HEAD_SPECIFIC) return activate(gate.activation(), logit(head));
    T sum = 0;
    for (size_t h = 0; h < heads; ++h) {
      sum += gate.average() == GateSpec::LOGITS ? logit(h) : activate(gate.activation(), logit(h));
    }
    const T mean = sum / static_cast<double>(heads);
    return gate.average() == GateSpec::LOGITS ? activate(gate.activation(), mean) : mean;
  }

  /// y [tokens, heads, width] behind the gate of a position, by the layer's input x.
  Values gated(GateSpec::Position position, const Values& x, Values y, size_t heads) const {
    const GateSpec* gate = gate_at(position);
    if (!gate) return y;
    const size_t width = y.size() / tokens_ / heads;
    const size_t channels = gate->granularity() == GateSpec::HEADWISE ? 1 : width;
    const std::string name = "self_attn.gates.g" + std::to_string(position);
    Values logits(tokens_ * heads * channels);
    if (has(name + ".weight")) logits = linear(x, of_layer(name + ".weight"));
    for (size_t i = 0; has(name + ".bias") && i < logits.size(); ++i) {
      logits[i] += of_layer(name + ".bias")[i % (heads * channels)];
    }
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t channel = channels == 1 ? 0 : i % width;
      const T s = score(*gate, logits, heads, channels, i / width / heads, i / width % heads, channel);
      y[i] = gate->combine() == GateSpec::MULTIPLY ? y[i] * s : y[i] + s;
    }
    return y;
  }

  /// Keys or values [tokens, kv_heads, head_dim], of a pool of experts when `switched`.
  Values key_values(const char* which, const Values& x, bool switched) const {
    const Values all = linear(x, of_layer(std::string("self_attn.") + which + "_proj.weight"));
    if (!switched) return all;
    const Values scores = linear(x, of_layer(std::string("self_attn.") + which + "_router.weight"));
    return switch_heads(all, scores, static_cast<size_t>(c_.switch_head().num_experts()),
                        static_cast<size_t>(c_.switch_head().top_k()), head_dim());
  }

  /// Gate, norm and RoPE of queries or keys.
  Values normed_and_rotated(const char* which, GateSpec::Position position, const Values& x, Values y,
                            size_t heads) const {
    const GateSpec* gate = gate_at(position);
    const bool before = gate && gate->before_qk_norm();
    if (before) y = gated(position, x, y, heads);
    if (c_.qk_norm()) y = norm(y, layer_ + "self_attn." + which + "_norm.weight");
    if (!before) y = gated(position, x, y, heads);
    Stretch by;
    if (c_.has_yarn()) {
      const double trained = static_cast<double>(c_.yarn().original_length());
      by = {c_.yarn().factor(), trained, c_.yarn().beta_fast(), c_.yarn().beta_slow()};
    }
    return rope(y, text_.positions, c_.rope_theta(), heads, head_dim(), by);
  }

  Values attention_layer(const Values& x) const {
    const bool switched = c_.has_switch_head();
    const bool switched_keys = switched && c_.switch_head().of() == SwitchHead::KV;
    const Values q =
        normed_and_rotated("q", GateSpec::G4, x, linear(x, of_layer("self_attn.q_proj.weight")), query_heads());
    const Values k = normed_and_rotated("k", GateSpec::G3, x, key_values("k", x, switched_keys), kv_heads());
    const Values v = gated(GateSpec::G2, x, key_values("v", x, switched), kv_heads());
    AttentionShape shape{query_heads(),
                         kv_heads(),
                         head_dim(),
                         text_.document_offsets,
                         text_.document_offsets,
                         text_.positions,
                         1 / std::sqrt(static_cast<double>(head_dim()))};
    Values heads = attention(shape, q, k, v).out;
    if (c_.head_output() == ModelConfig::RMS_NORM) heads = norm(heads, layer_ + "self_attn.head_norm.weight");
    if (c_.head_output() == ModelConfig::SILU) {
      for (T& y : heads) y = silu(y);
    }
    heads = gated(GateSpec::G1, x, heads, query_heads());
    const Values out = gated(GateSpec::G5, x, linear(heads, of_layer("self_attn.o_proj.weight")), 1);
    return to_residual(out, "attention_output_norm.weight");
  }

  /// What a layer's output meets before it is added.
  Values to_residual(Values out, const char* sandwich_norm) const {
    if (c_.sandwich_norm()) out = norm(out, layer_ + sandwich_norm);
    for (T& y : out) {
      if (c_.residual_clip() > 0 && std::abs(real_part(y)) > c_.residual_clip()) {
        y = real_part(y) < 0 ? -c_.residual_clip() : c_.residual_clip();
      }
    }
    return out;
  }

  Values feed_forward(const Values& x) {
    if (c_.has_moe()) return to_residual(plus(mixture(x), shared_expert(x)), "mlp_output_norm.weight");
    const Values activated =
        swiglu(linear(x, of_layer("mlp.gate_up_proj.weight")), {}, static_cast<size_t>(c_.intermediate_size()));
    return to_residual(linear(activated, of_layer("mlp.down_proj.weight")), "mlp_output_norm.weight");
  }

  /// Zeros without one.
  Values shared_expert(const Values& x) const {
    const int64_t width = c_.moe().shared_expert_intermediate_size();
    if (width == 0) return Values(x.size());
    const Values gate_up = linear(x, of_layer("mlp.shared_expert.gate_up_proj.weight"));
    Values out =
        linear(swiglu(gate_up, {}, static_cast<size_t>(width)), of_layer("mlp.shared_expert.down_proj.weight"));
    if (!c_.moe().shared_expert_gate()) return out;
    const Values logits = linear(x, of_layer("mlp.shared_expert_gate.weight"));
    for (size_t i = 0; i < out.size(); ++i) out[i] *= sigmoid(logits[i / hidden()]);
    return out;
  }

  Values mixture(const Values& x) {
    const MoeConfig& moe = c_.moe();
    const size_t experts = static_cast<size_t>(moe.num_experts()), top_k = static_cast<size_t>(moe.top_k());
    const Values logits = linear(x, of_layer("mlp.router.weight")), probs = softmax(logits, experts);
    const std::vector<int32_t> chosen = top_experts(real_parts(probs), experts, top_k);
    add_router_losses(logits, probs, chosen);

    const std::vector<int32_t> slots = slots_by_expert(chosen);
    std::vector<int64_t> offsets(experts + 1);
    for (const int32_t expert : chosen) ++offsets[static_cast<size_t>(expert) + 1];
    for (size_t e = 0; e < experts; ++e) offsets[e + 1] += offsets[e];
    const Values of_slots = router_weights(probs, chosen, experts, top_k, moe.norm_topk_prob());
    Values weights;
    for (const int32_t slot : slots) weights.push_back(of_slots[static_cast<size_t>(slot)]);
    const int64_t width = moe.moe_intermediate_size();
    const Values gate_up = grouped_linear(gather(x, slots, top_k, hidden()), of_layer("mlp.experts.gate_up_proj"),
                                          offsets, c_.hidden_size(), 2 * width);
    const Values activated = swiglu(gate_up, weights, static_cast<size_t>(width));
    const Values rows = grouped_linear(activated, of_layer("mlp.experts.down_proj"), offsets, width, c_.hidden_size());
    return combine(Values(x.size()), rows, slots, top_k, hidden());
  }

  void add_router_losses(const Values& logits, const Values& probs, const std::vector<int32_t>& chosen) {
    const MoeConfig& moe = c_.moe();
    const size_t experts = static_cast<size_t>(moe.num_experts());
    const double tokens = static_cast<double>(tokens_), assignments = static_cast<double>(chosen.size());
    for (const int32_t expert : chosen) {
      T mean_prob = 0;
      for (size_t t = 0; t < tokens_; ++t) mean_prob += probs[t * experts + static_cast<size_t>(expert)] / tokens;
      router_loss_ += moe.balance_coef() * static_cast<double>(experts) / assignments * mean_prob;
    }
    for (size_t t = 0; t < tokens_; ++t) {
      const T lse = log_sum_exp(&logits[t * experts], experts);
      router_loss_ += moe.z_coef() / tokens * lse * lse;
    }
  }

  const ModelConfig& c_;
  const Text& text_;
  const size_t tokens_;
  const Weights<T>* w_ = nullptr;
  std::string layer_;  // of the layer under way: the beginning of its parameters' names
  T router_loss_ = 0;
};

}  // namespace sluice::reference
