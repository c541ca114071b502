#include "runtime/validate_model.h"

#include <cmath>
#include <set>
#include <string>

#include "kernels/attention.h"
#include "kernels/rms_norm.h"
#include "kernels/router.h"
#include "kernels/switch_heads.h"

namespace sluice {
namespace {

constexpr int64_t kMostLayers = 10000;

void check_parameter_count(ConfigReport& report, const ModelConfig& m) {
  const ConfigReport::Factor layers{"model.num_layers", m.num_layers()}, hidden{"model.hidden_size", m.hidden_size()};
  report.product("parameters", {{"model.vocab_size", m.vocab_size()}, hidden});
  report.product(
      "parameters",
      {layers, {"model.num_attention_heads", m.num_attention_heads()}, {"model.head_dim", m.head_dim()}, hidden});
  if (m.has_switch_head()) {
    report.product("parameters", {layers,
                                  {"model.num_key_value_heads", m.num_key_value_heads()},
                                  {"model.switch_head.num_experts", m.switch_head().num_experts()},
                                  {"model.head_dim", m.head_dim()},
                                  hidden});
  }
  if (m.has_moe()) {
    report.product("parameters", {layers,
                                  {"model.moe.num_experts", m.moe().num_experts()},
                                  {"model.moe.moe_intermediate_size", m.moe().moe_intermediate_size()},
                                  hidden});
    report.product(
        "parameters",
        {layers, {"model.moe.shared_expert_intermediate_size", m.moe().shared_expert_intermediate_size()}, hidden});
  } else {
    report.product("parameters", {layers, {"model.intermediate_size", m.intermediate_size()}, hidden});
  }
}

/// What a gate at this position, with these choices, cannot be.
void check_gate(ConfigReport& report, const ModelConfig& m, const GateSpec& gate, const std::string& field) {
  const std::string position = GateSpec::Position_Name(gate.position());
  const bool headwise = gate.granularity() == GateSpec::HEADWISE, shared = gate.sharing() == GateSpec::HEAD_SHARED;
  if (gate.position() == GateSpec::G5) {
    report.check(!headwise, field, ".granularity=HEADWISE: behind o_proj there are no heads; use ELEMENTWISE");
    report.check(!shared, field, ".sharing=HEAD_SHARED: behind o_proj there are no heads; use HEAD_SPECIFIC");
  }
  const bool of_query_or_key = gate.position() == GateSpec::G3 || gate.position() == GateSpec::G4;
  report.check(of_query_or_key || !gate.has_before_qk_norm(), field, ".before_qk_norm is for G3 and G4: ", position,
               " is not normed");
  report.check(m.qk_norm() || gate.before_qk_norm(), field, ".before_qk_norm=false needs model.qk_norm");
  const bool cancelled =
      of_query_or_key && m.qk_norm() && gate.before_qk_norm() && headwise && gate.combine() == GateSpec::MULTIPLY;
  report.check(!cancelled, field, ": the norm that follows divides a headwise factor of ", position,
               " out again; use before_qk_norm: false or ELEMENTWISE");
  report.check(shared || !gate.has_average(), field, ".average is for HEAD_SHARED: nothing else is averaged");
  const bool constant = gate.input() == GateSpec::INPUT_INDEPENDENT;
  report.check(!constant || !gate.bias(), field, ".bias=true: an INPUT_INDEPENDENT gate is nothing but a bias");
}

void check_gates(ConfigReport& report, const ModelConfig& m) {
  std::set<int> seen;
  for (int i = 0; i < m.gates_size(); ++i) {
    const GateSpec& gate = m.gates(i);
    const std::string field = "model.gates[" + std::to_string(i) + "]";
    report.check(seen.insert(gate.position()).second, field, ".position=", GateSpec::Position_Name(gate.position()),
                 " is there twice");
    check_gate(report, m, gate, field);
  }
}

void check_yarn(ConfigReport& report, const ModelConfig& m) {
  const YarnConfig& yarn = m.yarn();
  report.check(m.rope_theta() > 1, "model.rope_theta=", m.rope_theta(),
               " must be above 1 for YaRN: with 1 no plane is "
               "slower than another");
  report.check(yarn.has_factor() && std::isfinite(yarn.factor()) && yarn.factor() >= 1,
               "model.yarn.factor=", yarn.factor(), " must be 1 or more");
  report.positive("model.yarn.original_length", yarn.has_original_length(), yarn.original_length());
  report.above_zero("model.yarn.beta_slow", yarn.beta_slow());
  report.check(yarn.beta_fast() > yarn.beta_slow(), "model.yarn.beta_fast=", yarn.beta_fast(),
               " must be above model.yarn.beta_slow=", yarn.beta_slow());
}

void check_switch_head(ConfigReport& report, const ModelConfig& m) {
  const SwitchHead& pool = m.switch_head();
  const bool experts =
      report.positive("model.switch_head.num_experts", pool.has_num_experts(), pool.num_experts(), kMaxSwitchExperts);
  if (report.positive("model.switch_head.top_k", pool.has_top_k(), pool.top_k()) && experts) {
    report.check(pool.top_k() <= pool.num_experts(), "model.switch_head.top_k=", pool.top_k(),
                 " is more than model.switch_head.num_experts=", pool.num_experts());
  }
  report.check(pool.of() == SwitchHead::V || !m.qk_norm() || pool.top_k() != 1,
               "model.switch_head.top_k=1: the norm of keys divides the score of a single expert out again, so that "
               "its router would not learn; use 2 or more, of: V or qk_norm: false");
}

void check_moe(ConfigReport& report, const MoeConfig& moe) {
  const bool experts = report.positive("model.moe.num_experts", moe.has_num_experts(), moe.num_experts(), kMaxExperts);
  const bool top_k = report.positive("model.moe.top_k", moe.has_top_k(), moe.top_k());
  report.positive("model.moe.moe_intermediate_size", moe.has_moe_intermediate_size(), moe.moe_intermediate_size());
  if (experts && top_k) {
    report.check(moe.top_k() <= moe.num_experts(), "model.moe.top_k=", moe.top_k(),
                 " is more than model.moe.num_experts=", moe.num_experts());
  }
  const int64_t shared_width = moe.shared_expert_intermediate_size();
  report.check(shared_width >= 0 && shared_width <= ConfigReport::kLargestSize,
               "model.moe.shared_expert_intermediate_size=", shared_width, " must be between 0 and ",
               ConfigReport::kLargestSize);
  report.check(shared_width > 0 || !moe.shared_expert_gate(),
               "model.moe.shared_expert_gate needs model.moe.shared_expert_intermediate_size");
  report.not_negative("model.moe.balance_coef", moe.balance_coef());
  report.not_negative("model.moe.z_coef", moe.z_coef());
  report.not_negative("model.moe.selection_bias_rate", moe.selection_bias_rate());
}

}  // namespace

void check_model(ConfigReport& report, const ModelConfig& m) {
  report.positive("model.hidden_size", m.has_hidden_size(), m.hidden_size(), kMaxNormWidth);
  report.positive("model.num_layers", m.has_num_layers(), m.num_layers(), kMostLayers);
  report.positive("model.vocab_size", m.has_vocab_size(), m.vocab_size());
  const bool heads = report.positive("model.num_attention_heads", m.has_num_attention_heads(), m.num_attention_heads());
  const bool kv_heads =
      report.positive("model.num_key_value_heads", m.has_num_key_value_heads(), m.num_key_value_heads());
  if (heads && kv_heads) {
    report.divides("model.num_attention_heads", m.num_attention_heads(), "model.num_key_value_heads",
                   m.num_key_value_heads());
  }
  if (report.positive("model.head_dim", m.has_head_dim(), m.head_dim(), kMaxHeadDim)) {
    report.check(m.head_dim() % 2 == 0, "model.head_dim=", m.head_dim(), " must be even for RoPE");
  }
  if (m.has_moe()) {
    check_moe(report, m.moe());
  } else {
    report.positive("model.intermediate_size", m.has_intermediate_size(), m.intermediate_size());
  }
  report.above_zero("model.rms_norm_eps", m.rms_norm_eps());
  report.above_zero("model.rope_theta", m.rope_theta());
  report.not_negative("model.init_std", m.init_std());
  if (m.has_mup())
    report.positive("model.mup.base_hidden_size", m.mup().has_base_hidden_size(), m.mup().base_hidden_size());
  report.not_negative("model.residual_clip", m.residual_clip());
  if (m.has_yarn()) check_yarn(report, m);
  if (m.has_switch_head()) check_switch_head(report, m);
  check_gates(report, m);
  report.check(m.ffn_parity_multiple() >= 0 && m.ffn_parity_multiple() <= ConfigReport::kLargestSize,
               "model.ffn_parity_multiple=", m.ffn_parity_multiple(), " must be between 0 and ",
               ConfigReport::kLargestSize);
  check_parameter_count(report, m);
}

}  // namespace sluice
