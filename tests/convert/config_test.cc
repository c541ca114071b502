#include <google/protobuf/util/message_differencer.h>
#include <nlohmann/json.hpp>

#include "runtime/convert/hugging_face_config.h"
#include "tests/convert/saved_model.h"

namespace sluice {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using testing::AllOf;
using testing::HasSubstr;

constexpr HuggingFaceFormat kMoe = HuggingFaceFormat::kQwen3Moe, kGated = HuggingFaceFormat::kQwen3Gated;

/// What an export does with a field.
enum class Fate { kHeld, kOfTraining, kRefused };

/// Every field of ModelConfig. A new one must be decided upon: is it in config.json or the tensors, does it change what
/// a trained model computes?
const std::map<std::string, Fate> kFates = {
    {"hidden_size", Fate::kHeld},
    {"num_layers", Fate::kHeld},
    {"num_attention_heads", Fate::kHeld},
    {"num_key_value_heads", Fate::kHeld},
    {"head_dim", Fate::kHeld},
    {"intermediate_size", Fate::kHeld},
    {"vocab_size", Fate::kHeld},
    {"tie_word_embeddings", Fate::kHeld},
    {"rms_norm_eps", Fate::kHeld},
    {"rope_theta", Fate::kHeld},
    {"qk_norm", Fate::kRefused},  // qwen3_gated holds it
    {"moe.num_experts", Fate::kHeld},
    {"moe.top_k", Fate::kHeld},
    {"moe.moe_intermediate_size", Fate::kHeld},
    {"moe.norm_topk_prob", Fate::kHeld},
    {"moe.balance_coef", Fate::kHeld},
    {"moe.z_coef", Fate::kOfTraining},
    {"moe.balance_scope", Fate::kOfTraining},
    {"moe.selection_bias_rate", Fate::kRefused},
    {"moe.shared_expert_intermediate_size", Fate::kRefused},
    {"moe.shared_expert_gate", Fate::kRefused},
    {"gates.position", Fate::kRefused},
    {"gates.granularity", Fate::kHeld},
    {"gates.sharing", Fate::kRefused},
    {"gates.combine", Fate::kRefused},
    {"gates.activation", Fate::kRefused},
    {"gates.input", Fate::kRefused},
    {"gates.before_qk_norm", Fate::kRefused},
    {"gates.average", Fate::kRefused},
    {"gates.bias", Fate::kRefused},
    {"gates.initialisation", Fate::kOfTraining},
    {"init_std", Fate::kHeld},
    {"scale_output_init", Fate::kOfTraining},
    {"mup.base_hidden_size", Fate::kRefused},  // unless it is hidden_size
    {"head_output", Fate::kRefused},
    {"switch_head.of", Fate::kRefused},
    {"switch_head.num_experts", Fate::kRefused},
    {"switch_head.top_k", Fate::kRefused},
    {"sandwich_norm", Fate::kRefused},
    {"residual_clip", Fate::kRefused},
    {"yarn.factor", Fate::kHeld},
    {"yarn.original_length", Fate::kHeld},
    {"yarn.beta_fast", Fate::kHeld},
    {"yarn.beta_slow", Fate::kHeld},
    {"ffn_parity_multiple", Fate::kRefused},
};

/// A model in which all that the formats hold is said.
TrainConfig full_config() {
  return small_config({"model.intermediate_size=10", "model.yarn={factor: 4 original_length: 256}"});
}

/// Gives a field another value than it has.
void change(Message& message, const FieldDescriptor& field) {
  const Reflection& r = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return r.SetInt64(&message, &field, r.GetInt64(message, &field) + 2);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return r.SetDouble(&message, &field, r.GetDouble(message, &field) * 1.5 + 0.25);
    case FieldDescriptor::CPPTYPE_BOOL:
      return r.SetBool(&message, &field, !r.GetBool(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto& type = *field.enum_type();
      const int next = (r.GetEnum(message, &field)->index() + 1) % type.value_count();
      return r.SetEnum(&message, &field, type.value(next));
    }
    default:
      FAIL() << field.full_name() << " is of a type that this test does not change";
  }
}

/// Calls visit(path, model with that field changed) for every field, of inner messages too.
template <class Visit>
void for_each_changed(const ModelConfig& base, const Visit& visit) {
  const auto& type = *base.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& outer = *type.field(i);
    const int inner = outer.message_type() ? outer.message_type()->field_count() : 1;
    for (int j = 0; j < inner; ++j) {
      ModelConfig model = base;
      const Reflection& r = *model.GetReflection();
      if (!outer.message_type()) {
        change(model, outer);
        visit(outer.name(), model);
        continue;
      }
      const FieldDescriptor& field = *outer.message_type()->field(j);
      Message& message =
          outer.is_repeated() ? *r.MutableRepeatedMessage(&model, &outer, 0) : *r.MutableMessage(&model, &outer);
      change(message, field);
      visit(outer.name() + "." + field.name(), model);
    }
  }
}

TEST(ExportedConfig, EveryFieldOfTheModelIsHeldRefusedOrOfTrainingAlone) {
  const TrainConfig base = full_config();
  const std::string before = hugging_face_config(base, kMoe, 256);
  size_t fields = 0;
  for_each_changed(base.model(), [&](const std::string& path, const ModelConfig& model) {
    SCOPED_TRACE(path);
    ++fields;
    ASSERT_TRUE(kFates.count(path)) << "decide what an export does with this new field";
    TrainConfig changed = base;
    *changed.mutable_model() = model;
    if (kFates.at(path) == Fate::kRefused) {
      const std::string name = path.starts_with("switch_head") ? "switch_head" : path.substr(path.rfind('.') + 1);
      EXPECT_THAT(error_of([&] { check_representable(model, kMoe); }), AllOf(HasSubstr("model."), HasSubstr(name)));
      return;
    }
    check_representable(model, kMoe);
    EXPECT_EQ(hugging_face_config(changed, kMoe, 256) == before, kFates.at(path) == Fate::kOfTraining);
  });
  EXPECT_EQ(fields, kFates.size());
}

TEST(ExportedConfig, WhatAFormatCannotHoldIsRefusedByItsField) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"model.gates[0]={activation: SILU}",
       "model.gates[0].activation=SILU: format qwen3_moe has no place for it; only "
       "models with SIGMOID can be exported"},
      {"model.gates[1]={position: G2}", "model.gates[1].position=G2"},
      {"model.qk_norm=false", "model.qk_norm=false: format qwen3_moe has no place for it; only models with true"},
      {"model.switch_head={num_experts: 2 top_k: 2}", "only models without model.switch_head can be exported"},
      {"model.mup={base_hidden_size: 8}", "model.mup.base_hidden_size=8: format qwen3_moe cannot divide logits"},
      {"model.yarn={factor: 2 original_length: 1 beta_slow: 20}",
       "model.yarn.original_length=1: its ramp lies outside"},
      {"model.residual_clip=10", "model.residual_clip=10"}};
  for (const auto& [override_text, text] : cases) {
    const TrainConfig config = small_config({override_text});
    EXPECT_THAT(error_of([&] { check_representable(config.model(), kMoe); }), HasSubstr(text));
  }
  EXPECT_THAT(error_of([&] { check_representable(small_config().model(), kGated); }), HasSubstr("use qwen3_moe"));
  EXPECT_THAT(error_of([&] { check_representable(small_dense_config().model(), kMoe); }), HasSubstr("use qwen3_gated"));
  check_representable(small_config({"model.mup={base_hidden_size: 16}"}).model(), kMoe);
  check_representable(small_dense_config({"model.qk_norm=false"}).model(), kGated);
}

TEST(ExportedConfig, IsReadBackAsTheSameModel) {
  for (const auto& [config, format] :
       {std::pair{full_config(), kMoe},
        {small_config({"model.gates=", "model.moe.norm_topk_prob=false"}), kMoe},
        {small_dense_config({"model.gates[0]={granularity: HEADWISE}", "model.tie_word_embeddings=true"}), kGated},
        {small_dense_config({"model.gates=", "model.qk_norm=false", "model.rope_theta=1e6"}), kGated}}) {
    ImportedConfig imported =
        parse_hugging_face_config(hugging_face_config(config, format, std::nullopt), "config.json", format);
    ModelConfig model = config.model(), back = imported.config.model();
    for (ModelConfig* of_training : {&model, &back}) {
      if (of_training->has_moe()) of_training->mutable_moe()->clear_z_coef();
    }
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equivalent(model, back))
        << model.DebugString() << back.DebugString();
    validate_training(imported.config, 1);
    EXPECT_EQ(imported.config.training().sequence_length(),
              config.model().has_yarn() ? 1024 : config.training().sequence_length());
  }
}

/// A config.json with other values for some keys.
std::string changed(const TrainConfig& config, HuggingFaceFormat format, const nlohmann::json& changes) {
  nlohmann::json json = nlohmann::json::parse(hugging_face_config(config, format, 256));
  json.update(changes);
  return json.dump();
}

ImportedConfig parse(const std::string& text, HuggingFaceFormat format = kMoe) {
  return parse_hugging_face_config(text, "x/config.json", format);
}

TEST(ImportedConfig, ValuesThatOurModelCannotHaveAreRefused) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"model_type": "qwen3_next"})", "model_type=\"qwen3_next\" is not supported; only \"qwen3_moe\""},
      {R"({"model_type": null})", "model_type is missing"},
      {R"({"hidden_act": "gelu"})", "hidden_act=\"gelu\" is not supported; only \"silu\""},
      {R"({"attention_bias": true})", "attention_bias=true is not supported; only false"},
      {R"({"qkv_bias": true})", "qkv_bias=true"},
      {R"({"use_sliding_window": true})", "use_sliding_window=true"},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})", "only full_attention in every layer"},
      {R"({"decoder_sparse_step": 2})", "decoder_sparse_step=2 is not supported; only 1"},
      {R"({"mlp_only_layers": [0]})", "mlp_only_layers=[0] is not supported; only []"},
      {R"({"use_qk_norm": false})", "use_qk_norm=false is not supported; only true"},
      {R"({"partial_rotary_factor": 0.5})", "partial_rotary_factor=0.5"},
      {R"({"quantization_config": {"bits": 4}})", "quantization_config={\"bits\":4} is not supported; only null"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": 2}})", "rope_type=\"linear\" is not supported"},
      {R"({"rope_scaling": {"type": "dynamic", "factor": 2}})", "rope_type=\"dynamic\" is not supported"},
      {R"({"rope_scaling": {"rope_type": "yarn"}})", "rope_scaling: factor is missing"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "attention_factor": 1}})", "attention_factor=1 is not"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "truncate": false}})", "truncate=false"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "mscale": 1}})", "mscale=1"},
      {R"({"rope_parameters": {"rope_type": "default", "factor": 2}})", "factor is not supported with"},
      {R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})", "partial_rotary_factor=0.25"},
      {R"({"hidden_size": null})", "hidden_size is missing"},
      {R"({"hidden_size": "16"})", "hidden_size=\"16\": expected a whole number"},
      {R"({"num_hidden_layers": 2.5})", "num_hidden_layers=2.5: expected a whole number"},
      {R"({"vocab_size": 18446744073709551615})", "vocab_size=18446744073709551615: expected a whole number"},
      {R"({"rms_norm_eps": "small"})", "rms_norm_eps=\"small\": expected a number"},
      {R"({"norm_topk_prob": 1})", "norm_topk_prob=1: expected true or false"}};
  for (const auto& [changes, text] : cases) {
    const std::string bytes = changed(small_config(), kMoe, nlohmann::json::parse(changes));
    EXPECT_THAT(error_of([&] { parse(bytes); }), AllOf(HasSubstr("x/config.json: "), HasSubstr(text))) << changes;
  }
  EXPECT_THAT(error_of([&] { parse("{\"a\": "); }), HasSubstr("x/config.json: not JSON"));
  EXPECT_THAT(error_of([&] { parse("[1]"); }), HasSubstr("expected a JSON object"));
}

TEST(ImportedConfig, OtherWaysToSayTheSameAreRead) {
  const nlohmann::json newer = {{"rope_theta", nullptr},
                                {"rope_scaling", nullptr},
                                {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}},
                                {"layer_types", {"full_attention", "full_attention"}},
                                {"num_experts", nullptr},
                                {"num_local_experts", 5},
                                {"dtype", "bfloat16"}};
  const ImportedConfig imported = parse(changed(small_config(), kMoe, newer));
  EXPECT_EQ(imported.config.model().rope_theta(), 5e5);
  EXPECT_EQ(imported.config.model().moe().num_experts(), 5);
  EXPECT_THAT(imported.ignored, testing::IsEmpty());

  const nlohmann::json yarn = {
      {"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}}}};
  const ModelConfig stretched = parse(changed(small_config(), kMoe, yarn)).config.model();
  EXPECT_EQ(stretched.yarn().original_length(), 32768);
  EXPECT_EQ(stretched.yarn().beta_fast(), 32);
}

TEST(ImportedConfig, WithBothGatesTakesTheScoresOfHeadsAsTheReleasedCodeDoes) {
  const nlohmann::json both = {{"headwise_attn_output_gate", true}, {"elementwise_attn_output_gate", true}};
  const ModelConfig model = parse(changed(small_dense_config(), kGated, both), kGated).config.model();
  ASSERT_EQ(model.gates_size(), 1);
  EXPECT_EQ(model.gates(0).granularity(), GateSpec::HEADWISE);
}

TEST(ImportedConfig, KeysThatAreNotKnownAreNamed) {
  const ImportedConfig imported = parse(changed(small_config(), kMoe, {{"logit_softcap", 30}, {"use_cache", false}}));
  EXPECT_THAT(imported.ignored, testing::ElementsAre("logit_softcap"));
}

}  // namespace
}  // namespace sluice
