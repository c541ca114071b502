#include "runtime/convert/representable.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include "kernels/core/error.h"

namespace sluice {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

/// What config.json and the shapes of the tensors say; the fields of messages here are looked at one by one.
constexpr std::string_view kHeld[] = {"hidden_size",
                                      "num_layers",
                                      "num_attention_heads",
                                      "num_key_value_heads",
                                      "head_dim",
                                      "intermediate_size",
                                      "vocab_size",
                                      "tie_word_embeddings",
                                      "rms_norm_eps",
                                      "rope_theta",
                                      "init_std",
                                      "moe",
                                      "moe.num_experts",
                                      "moe.top_k",
                                      "moe.moe_intermediate_size",
                                      "moe.norm_topk_prob",
                                      "moe.balance_coef",
                                      "gates",
                                      "gates.granularity",
                                      "yarn",
                                      "yarn.factor",
                                      "yarn.original_length",
                                      "yarn.beta_fast",
                                      "yarn.beta_slow"};

/// What a trained model computes is the same whatever these say. (mup: see check_logit_scale.)
constexpr std::string_view kOfTraining[] = {"scale_output_init",    "moe.z_coef", "moe.balance_scope",
                                            "gates.initialisation", "mup",        "mup.base_hidden_size"};

template <size_t n>
bool contains(const std::string_view (&names)[n], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

std::string value_text(const Message& message, const FieldDescriptor& field) {
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(message, &field, -1, &text);
  return text;
}

/// Refuses what has another value than its default among the fields that are neither held nor of training.
class FieldCheck {
 public:
  explicit FieldCheck(HuggingFaceFormat format) : format_(format) {}

  /// `names` leads to the message as kHeld writes it, `path` as --set does.
  void check(const Message& message, const std::string& names, const std::string& path) const {
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      check_field(message, *message.GetDescriptor()->field(i), names, path);
    }
  }

 private:
  void check_field(const Message& message, const FieldDescriptor& field, const std::string& names,
                   const std::string& path) const {
    const Reflection& reflection = *message.GetReflection();
    const std::string name = names + field.name();
    const bool has_fields = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (is_free(name) && !has_fields) return;
    const int count =
        field.is_repeated() ? reflection.FieldSize(message, &field) : reflection.HasField(message, &field);
    for (int i = 0; i < count; ++i) {
      const std::string where = path + field.name() + (field.is_repeated() ? concat("[", i, "]") : "");
      if (!has_fields && !field.is_repeated()) {
        check_default(message, field, where);
        continue;
      }
      ENSURE(is_free(name), where, ": format ", format_name(format_), " has no place for it; only models without ",
             where, " can be exported");
      check(field.is_repeated() ? reflection.GetRepeatedMessage(message, &field, i)
                                : reflection.GetMessage(message, &field),
            name + ".", where + ".");
    }
  }

  void check_default(const Message& message, const FieldDescriptor& field, const std::string& where) const {
    // The value of a message in which nothing is set.
    const Message& defaults = *message.GetReflection()->GetMessageFactory()->GetPrototype(message.GetDescriptor());
    const std::string value = value_text(message, field), expected = value_text(defaults, field);
    ENSURE(value == expected, where, "=", value, ": format ", format_name(format_),
           " has no place for it; only models with ", expected, " can be exported");
  }

  bool is_free(const std::string& name) const {
    // The released gated code can do without; transformers' cannot.
    if (name == "qk_norm") return format_ == HuggingFaceFormat::kQwen3Gated;
    return contains(kHeld, name) || contains(kOfTraining, name);
  }

  HuggingFaceFormat format_;
};

void check_kind(const ModelConfig& model, HuggingFaceFormat format) {
  const bool moe = format == HuggingFaceFormat::kQwen3Moe;
  ENSURE(!moe || model.has_moe(), "model.moe is missing: format qwen3_moe holds mixtures of experts; use qwen3_gated");
  ENSURE(moe || !model.has_moe(), "model.moe: format qwen3_gated holds dense models; use qwen3_moe");
}

void check_logit_scale(const ModelConfig& model, HuggingFaceFormat format) {
  ENSURE(!model.has_mup() || model.mup().base_hidden_size() == model.hidden_size(),
         "model.mup.base_hidden_size=", model.mup().base_hidden_size(), ": format ", format_name(format),
         " cannot divide logits; only models with model.hidden_size=", model.hidden_size(), " there can be exported");
}

/// Outside of the planes there are, transformers computes something else.
void check_ramp(const ModelConfig& model) {
  if (!model.has_yarn()) return;
  const YarnConfig& yarn = model.yarn();
  const double width = static_cast<double>(model.head_dim());
  const auto plane = [&](double turns) {
    const double length = static_cast<double>(yarn.original_length());
    return width * std::log(length / (2 * std::numbers::pi * turns)) / (2 * std::log(model.rope_theta()));
  };
  ENSURE(std::ceil(plane(yarn.beta_slow())) >= 0 && std::floor(plane(yarn.beta_fast())) <= width - 1,
         "model.yarn.original_length=", yarn.original_length(),
         ": its ramp lies outside of the head's planes, where Hugging Face's code computes something else; only a ",
         "length for which some plane turns between beta_slow and beta_fast times can be exported");
}

}  // namespace

std::string format_name(HuggingFaceFormat format) {
  return format == HuggingFaceFormat::kQwen3Moe ? "qwen3_moe" : "qwen3_gated";
}

void check_representable(const ModelConfig& model, HuggingFaceFormat format) {
  check_kind(model, format);
  FieldCheck(format).check(model, "", "model.");
  check_logit_scale(model, format);
  check_ramp(model);
}

}  // namespace sluice
