#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "tests/models/whole_model.h"

// The loss of every option that changes what the model computes, and the gradient of every parameter.
namespace sluice {
namespace {

struct Variant {
  std::string name;
  std::vector<std::string> overrides;
};
std::ostream& operator<<(std::ostream& out, const Variant& variant) { return out << variant.name; }

/// Options, each in every combination of the five that follow.
std::vector<Variant> variants() {
  const std::vector<Variant> options = {
      {"ungated", {"model.gates="}},
      {"gated", {}},
      {"headwise", {"model.gates[0].granularity=HEADWISE"}},
      {"head_norm", {"model.gates=", "model.head_output=RMS_NORM"}},
      {"head_silu", {"model.gates=", "model.head_output=SILU"}},
      {"head_norm_gated", {"model.head_output=RMS_NORM"}},
      {"switch_v", {"model.switch_head={num_experts: 3 top_k: 2}"}},
      {"switch_kv", {"model.switch_head={of: KV num_experts: 3 top_k: 3}"}},
      {"switch_gated",
       {"model.switch_head={of: KV num_experts: 4 top_k: 2}", "model.gates[1]={position: G2}",
        "model.gates[2]={position: G3}"}},
      {"shared_expert", {"model.moe.shared_expert_intermediate_size=9"}},
      {"gated_shared_expert",
       {"model.moe.shared_expert_intermediate_size=9", "model.moe.shared_expert_gate=true",
        "model.sandwich_norm=true"}},
      {"sandwich", {"model.sandwich_norm=true"}},
      {"clip", {"model.residual_clip=0.3"}},
      // Of the three planes one keeps its speed, and the others are slowed by a third and two thirds of the factor.
      {"yarn", {"model.rope_theta=10", "model.yarn={factor: 4 original_length: 8 beta_fast: 1 beta_slow: 0.2}"}},
      {"sandwich_clip", {"model.sandwich_norm=true", "model.residual_clip=0.9", "model.gates[0].position=G5"}},
      {"five_gates",
       {"model.gates[0]={position: G1 bias: true}", "model.gates[1]={position: G2 granularity: HEADWISE}",
        "model.gates[2]={position: G3 combine: ADD activation: SILU}",
        "model.gates[3]={position: G4 sharing: HEAD_SHARED before_qk_norm: false}",
        "model.gates[4]={position: G5 activation: TWICE_SIGMOID}"}},
  };
  std::vector<Variant> all;
  for (const Variant& option : options) {
    for (unsigned rest = 0; rest < 8; ++rest) {
      Variant variant = option;
      const auto add = [&](const char* name, const std::vector<std::string>& overrides) {
        variant.name += name;
        variant.overrides.insert(variant.overrides.end(), overrides.begin(), overrides.end());
      };
      const bool dense = rest & 1, without_norm = rest & 2, tied = rest & 4;
      if (dense) add("_dense", {"model.moe=", "model.intermediate_size=10"});
      if (tied) add("_tied", {"model.tie_word_embeddings=true"});
      if (dense ^ without_norm ^ tied) add("_mup", {"model.mup.base_hidden_size=4"});
      if (without_norm) {
        if (option.name == "five_gates") variant.overrides.push_back("model.gates[3].before_qk_norm=true");
        add("_no_qk_norm", {"model.qk_norm=false"});
      }
      all.push_back(variant);
    }
  }
  return all;
}

class Reference : public testing::TestWithParam<Variant> {};

TEST_P(Reference, LossAndGradientsAreThoseOfTheEquations) { expect_reference(tiny_config(GetParam().overrides)); }

INSTANTIATE_TEST_SUITE_P(, Reference, testing::ValuesIn(variants()),
                         [](const testing::TestParamInfo<Variant>& info) { return info.param.name; });

TEST(WholeModel, TiedEmbeddingsAreTheOutputLayer) {
  const auto has_head = [&](bool tied) {
    const WholeModel model(tiny_config({concat("model.tie_word_embeddings=", tied ? "true" : "false")}));
    return std::any_of(model.records().begin(), model.records().end(),
                       [](const ParameterRecord& r) { return r.name == "lm_head.weight"; });
  };
  EXPECT_FALSE(has_head(true));
  EXPECT_TRUE(has_head(false));
}

TEST(Mup, DividesLogitsAndScalesHiddenMatricesByTheWidth) {
  WholeModel base(tiny_config()), wide(tiny_config({"model.mup.base_hidden_size=4"}));
  const double ratio = 16.0 / 4;
  for (size_t i = 0; i < base.records().size(); ++i) {
    const ParameterRecord& r = wide.records()[i];
    const bool hidden = r.global_shape.size() > 1 && r.name.rfind("model.layers.", 0) == 0;
    EXPECT_EQ(r.lr_scale, hidden ? 1 / ratio : 1) << r.name;
    const double scale = hidden ? 1 / std::sqrt(ratio) : 1;
    for (int64_t e = r.flat_begin; e < r.flat_begin + r.count; ++e) {
      EXPECT_NEAR(wide.weights()[e], scale * base.weights()[e], 1e-7) << r.name;
    }
    std::copy(wide.weights() + r.flat_begin, wide.weights() + r.flat_begin + r.count, base.weights() + r.flat_begin);
  }
  const std::vector<double> logits = base.logits(), divided = wide.logits();
  for (size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(divided[i], logits[i] / ratio, 1e-12);
}

}  // namespace
}  // namespace sluice
