#include "runtime/convert/hugging_face_config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "models/gate.h"
#include "runtime/files/json_depth.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

bool is_moe(HuggingFaceFormat format) { return format == HuggingFaceFormat::kQwen3Moe; }

/// The released gated code is for models of transformers' type qwen3.
const char* model_type(HuggingFaceFormat format) { return is_moe(format) ? "qwen3_moe" : "qwen3"; }

nlohmann::ordered_json yarn_scaling(const YarnConfig& yarn) {
  return {{"rope_type", "yarn"},
          {"factor", yarn.factor()},
          {"original_max_position_embeddings", yarn.original_length()},
          {"beta_fast", yarn.beta_fast()},
          {"beta_slow", yarn.beta_slow()}};
}

/// Of experts, or what the released gated code asks of a dense model.
void add_feed_forward(const ModelConfig& m, nlohmann::ordered_json& out) {
  if (!m.has_moe()) {
    out["qkv_bias"] = false;
    out["use_qk_norm"] = m.qk_norm();
    return;
  }
  out.update({{"num_experts", m.moe().num_experts()},
              {"num_experts_per_tok", m.moe().top_k()},
              {"moe_intermediate_size", m.moe().moe_intermediate_size()},
              {"norm_topk_prob", m.moe().norm_topk_prob()},
              {"decoder_sparse_step", 1},
              {"mlp_only_layers", nlohmann::ordered_json::array()},
              {"router_aux_loss_coef", m.moe().balance_coef()},
              {"output_router_logits", false}});
}

void add_gate(const ModelConfig& m, nlohmann::ordered_json& out) {
  const GateSpec* gate = find_gate(m, GateSpec::G1);
  // transformers' own mixture of experts knows no gate.
  if (!gate && m.has_moe()) return;
  out["headwise_attn_output_gate"] = gate && gate->granularity() == GateSpec::HEADWISE;
  out["elementwise_attn_output_gate"] = gate && gate->granularity() == GateSpec::ELEMENTWISE;
}

int64_t longest_text(const TrainConfig& config) {
  const YarnConfig& yarn = config.model().yarn();
  if (!config.model().has_yarn()) return config.training().sequence_length();
  return std::llround(yarn.factor() * static_cast<double>(yarn.original_length()));
}

/// A config.json that is read key by key. A key that is null counts as absent.
class ConfigFile {
 public:
  ConfigFile(const Json& json, std::string path) : json_(json), path_(std::move(path)) {
    ENSURE(json_.is_object(), path_, ": expected a JSON object");
  }

  const Json& at(const std::string& key) {
    static const Json absent;
    seen_.insert(key);
    const auto value = json_.find(key);
    return value == json_.end() ? absent : *value;
  }
  bool has(const std::string& key) { return !at(key).is_null(); }

  int64_t whole(const std::string& key, std::optional<int64_t> otherwise = {}) {
    const Json& value = present(key, otherwise.has_value());
    if (value.is_null()) return *otherwise;
    ENSURE(value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX), path_,
           ": ", key, "=", value.dump(), ": expected a whole number");
    return value.get<int64_t>();
  }
  double number(const std::string& key, std::optional<double> otherwise = {}) {
    const Json& value = present(key, otherwise.has_value());
    if (value.is_null()) return *otherwise;
    ENSURE(value.is_number(), path_, ": ", key, "=", value.dump(), ": expected a number");
    return value.get<double>();
  }
  bool flag(const std::string& key, bool otherwise) {
    const Json& value = at(key);
    if (value.is_null()) return otherwise;
    ENSURE(value.is_boolean(), path_, ": ", key, "=", value.dump(), ": expected true or false");
    return value.get<bool>();
  }
  /// Throws Error unless a key is absent or has the one value that our model has.
  void expect(const std::string& key, const Json& only) {
    const Json& value = at(key);
    ENSURE(value.is_null() || value == only, path_, ": ", key, "=", value.dump(), " is not supported; only ",
           only.dump());
  }
  /// Keys that nobody asked for and that are not known to be harmless.
  std::vector<std::string> unread(const std::set<std::string>& harmless) const {
    std::vector<std::string> keys;
    for (const auto& [key, value] : json_.items()) {
      if (!seen_.count(key) && !harmless.count(key)) keys.push_back(key);
    }
    return keys;
  }
  const std::string& path() const { return path_; }

 private:
  const Json& present(const std::string& key, bool may_be_absent) {
    const Json& value = at(key);
    ENSURE(may_be_absent || !value.is_null(), path_, ": ", key, " is missing");
    return value;
  }

  const Json& json_;
  std::string path_;
  std::set<std::string> seen_;
};

/// What our model is in one way only.
void expect_the_usual(ConfigFile& file, HuggingFaceFormat format) {
  file.expect("model_type", model_type(format));
  ENSURE(file.has("model_type"), file.path(), ": model_type is missing; expected ", model_type(format));
  file.expect("hidden_act", "silu");
  for (const char* key : {"attention_bias", "qkv_bias", "use_sliding_window"}) file.expect(key, false);
  file.expect("partial_rotary_factor", 1.0);
  file.expect("quantization_config", nullptr);
  const Json& layers = file.at("layer_types");
  const bool full =
      std::all_of(layers.begin(), layers.end(), [](const Json& type) { return type == "full_attention"; });
  ENSURE(full, file.path(), ": layer_types=", layers.dump(), " is not supported; only full_attention in every layer");
}

void read_sizes(ConfigFile& file, HuggingFaceFormat format, ModelConfig& m) {
  m.set_hidden_size(file.whole("hidden_size"));
  m.set_num_layers(file.whole("num_hidden_layers"));
  m.set_num_attention_heads(file.whole("num_attention_heads"));
  m.set_num_key_value_heads(file.whole("num_key_value_heads", m.num_attention_heads()));
  constexpr int64_t kQwen3HeadDim = 128;
  const int64_t split_evenly = m.num_attention_heads() > 0 ? m.hidden_size() / m.num_attention_heads() : 0;
  m.set_head_dim(file.whole("head_dim", is_moe(format) ? split_evenly : kQwen3HeadDim));
  m.set_vocab_size(file.whole("vocab_size"));
  m.set_tie_word_embeddings(file.flag("tie_word_embeddings", false));
  m.set_rms_norm_eps(file.number("rms_norm_eps", 1e-6));
  m.set_init_std(file.number("initializer_range", 0.02));
  if (!is_moe(format) || file.has("intermediate_size")) m.set_intermediate_size(file.whole("intermediate_size"));
}

void read_moe(ConfigFile& file, MoeConfig& moe) {
  file.expect("decoder_sparse_step", 1);
  file.expect("mlp_only_layers", Json::array());
  // Either name, or both.
  moe.set_num_experts(file.whole(file.has("num_experts") ? "num_experts" : "num_local_experts"));
  file.expect("num_local_experts", moe.num_experts());
  moe.set_top_k(file.whole("num_experts_per_tok"));
  moe.set_moe_intermediate_size(file.whole("moe_intermediate_size"));
  moe.set_norm_topk_prob(file.flag("norm_topk_prob", false));
  moe.set_balance_coef(file.number("router_aux_loss_coef", 0.001));
}

void read_gate(ConfigFile& file, ModelConfig& m) {
  const bool headwise = file.flag("headwise_attn_output_gate", false);
  const bool elementwise = file.flag("elementwise_attn_output_gate", false);
  if (!headwise && !elementwise) return;
  GateSpec& gate = *m.add_gates();
  gate.set_position(GateSpec::G1);
  // With both, the released code takes the scores of heads.
  gate.set_granularity(headwise ? GateSpec::HEADWISE : GateSpec::ELEMENTWISE);
}

void read_yarn(ConfigFile& rope, int64_t longest, YarnConfig& yarn) {
  yarn.set_factor(rope.number("factor"));
  yarn.set_original_length(rope.whole("original_max_position_embeddings", longest));
  yarn.set_beta_fast(rope.number("beta_fast", 32));
  yarn.set_beta_slow(rope.number("beta_slow", 1));
  const double amplitude = 0.1 * std::log(yarn.factor()) + 1;
  const double given = rope.number("attention_factor", amplitude);
  ENSURE(std::abs(given - amplitude) <= 1e-6 * amplitude, rope.path(), ": attention_factor=", given,
         " is not supported; only 0.1 ln(factor) + 1 = ", amplitude);
  for (const char* key : {"mscale", "mscale_all_dim"}) rope.expect(key, nullptr);
  rope.expect("truncate", true);
}

/// Older files have rope_theta and rope_scaling, newer ones rope_parameters.
void read_rope(ConfigFile& file, int64_t longest, ModelConfig& m) {
  ENSURE(!file.has("rope_scaling") || !file.has("rope_parameters"), file.path(),
         ": has rope_scaling and rope_parameters; keep the one that is meant");
  const std::string key = file.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const Json nothing = Json::object();
  ConfigFile rope(file.has(key) ? file.at(key) : nothing, concat(file.path(), ": ", key));
  m.set_rope_theta(rope.number("rope_theta", file.number("rope_theta", 10000)));
  const Json type = rope.has("rope_type") ? rope.at("rope_type") : rope.has("type") ? rope.at("type") : Json("default");
  ENSURE(type == "default" || type == "yarn", rope.path(), ": rope_type=", type.dump(),
         " is not supported; only default and yarn");
  rope.expect("type", type);
  rope.expect("partial_rotary_factor", 1.0);
  if (type == "yarn") read_yarn(rope, longest, *m.mutable_yarn());
  const std::vector<std::string> others = rope.unread({});
  ENSURE(others.empty(), rope.path(), ": ", others.front(), " is not supported with rope_type=", type.dump());
}

/// A run that changes nothing: an imported model has been trained elsewhere.
void fill_training(int64_t length, TrainConfig& config) {
  TrainingConfig& training = *config.mutable_training();
  training.set_steps(1);
  training.set_sequence_length(length);
  training.set_micro_batch_size(1);
  training.set_global_batch_size(1);
  config.mutable_optimizer()->set_lr(0);
  config.mutable_optimizer()->set_min_lr(0);
  config.mutable_data()->add_train()->set_prefix("imported");
  config.set_precision(TrainConfig::F32);
}

}  // namespace

std::string hugging_face_config(const TrainConfig& config, HuggingFaceFormat format, std::optional<int32_t> end_token) {
  const ModelConfig& m = config.model();
  nlohmann::ordered_json out = {
      {"architectures", {is_moe(format) ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM"}},
      {"model_type", model_type(format)},
      {"hidden_size", m.hidden_size()},
      {"num_hidden_layers", m.num_layers()},
      {"num_attention_heads", m.num_attention_heads()},
      {"num_key_value_heads", m.num_key_value_heads()},
      {"head_dim", m.head_dim()},
      {"vocab_size", m.vocab_size()},
      {"tie_word_embeddings", m.tie_word_embeddings()},
      {"hidden_act", "silu"},
      {"rms_norm_eps", m.rms_norm_eps()},
      {"initializer_range", m.init_std()},
      {"rope_theta", m.rope_theta()},
      {"rope_scaling", m.has_yarn() ? yarn_scaling(m.yarn()) : nlohmann::ordered_json()},
      {"max_position_embeddings", longest_text(config)},
      {"attention_bias", false},
      {"attention_dropout", 0.0},
      {"use_sliding_window", false},
      {"sliding_window", nullptr},
      {"max_window_layers", m.num_layers()},
      {"use_cache", true},
      {"torch_dtype", "float32"},
      {"bos_token_id", nullptr},
      {"eos_token_id", end_token ? nlohmann::ordered_json(*end_token) : nlohmann::ordered_json()},
      {"pad_token_id", nullptr}};
  // A mixture of experts does not need it.
  if (m.has_intermediate_size()) out["intermediate_size"] = m.intermediate_size();
  add_feed_forward(m, out);
  add_gate(m, out);
  return out.dump(2) + "\n";
}

ImportedConfig parse_hugging_face_config(const std::string& text, const std::string& path, HuggingFaceFormat format) {
  const Json json = Json::parse(text, depth_limit(path), false);
  ENSURE(!json.is_discarded(), path, ": not JSON");
  ConfigFile file(json, path);
  expect_the_usual(file, format);
  ImportedConfig imported;
  ModelConfig& model = *imported.config.mutable_model();
  read_sizes(file, format, model);
  const int64_t longest = file.whole("max_position_embeddings", 32768);
  read_rope(file, longest, model);
  read_gate(file, model);
  if (is_moe(format)) {
    file.expect("use_qk_norm", true);
    read_moe(file, *model.mutable_moe());
  } else {
    model.set_qk_norm(file.flag("use_qk_norm", true));
  }
  fill_training(longest, imported.config);
  imported.ignored = file.unread({"architectures", "attention_dropout", "bos_token_id", "dtype", "eos_token_id",
                                  "max_window_layers", "output_router_logits", "pad_token_id", "sliding_window",
                                  "torch_dtype", "transformers_version", "use_cache", "_name_or_path"});
  return imported;
}

}  // namespace sluice
