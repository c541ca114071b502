#include "launch/diagnostics_report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace sluice {
namespace {

std::string text(GateSpec::Position position) { return GateSpec::Position_Name(position); }

nlohmann::ordered_json magnitudes(const MagnitudeDiagnostics& m) {
  return {{"mean", m.mean}, {"below_1e-2", m.below_hundredth}, {"below_1e-3", m.below_thousandth}};
}

nlohmann::ordered_json gate_json(const GateDiagnostics& gate) {
  return {{"position", text(gate.position)}, {"mean", gate.mean},       {"deviation", gate.deviation},
          {"smallest", gate.smallest},       {"largest", gate.largest}, {"below_0.1", gate.below_tenth},
          {"below_0.5", gate.below_half},    {"density", gate.density}};
}

nlohmann::ordered_json layer_json(const LayerDiagnostics& layer) {
  nlohmann::ordered_json gates = nlohmann::ordered_json::array();
  for (const GateDiagnostics& gate : layer.gates) gates.push_back(gate_json(gate));
  nlohmann::ordered_json out = {{"first_token_attention", layer.first_token_attention},
                                {"head_sinks", layer.head_sinks},
                                {"attention_logit_max", layer.attention_logit_max},
                                {"gates", gates},
                                {"attention_output_max", layer.attention_output_max},
                                {"middle_max", layer.middle_max},
                                {"mlp_output_max", layer.mlp_output_max},
                                {"residual_max", layer.residual_max},
                                {"massive", layer.massive},
                                {"router_entropy", layer.router_entropy},
                                {"expert_load_max_over_mean", layer.expert_load_max_over_mean},
                                {"head_output", magnitudes(layer.head_output)},
                                {"gated_output", magnitudes(layer.gated_output)},
                                {"output_by_mean_gate", magnitudes(layer.output_by_mean_gate)}};
  if (!layer.attention_map.empty()) out["attention_map"] = layer.attention_map;
  return out;
}

void print_gates(const ModelDiagnostics& diagnostics) {
  if (diagnostics.layers.front().gates.empty()) return;
  fmt::print("\n{:>5} {:>5} {:>8} {:>9} {:>9} {:>8} {:>7} {:>7}\n", "layer", "gate", "mean", "deviation", "smallest",
             "largest", "< 0.1", "< 0.5");
  for (size_t i = 0; i < diagnostics.layers.size(); ++i) {
    for (const GateDiagnostics& gate : diagnostics.layers[i].gates) {
      fmt::print("{:>5} {:>5} {:>8.4f} {:>9.4f} {:>9.4f} {:>8.4f} {:>7.4f} {:>7.4f}\n", i, text(gate.position),
                 gate.mean, gate.deviation, gate.smallest, gate.largest, gate.below_tenth, gate.below_half);
    }
  }
}

}  // namespace

void print_diagnostics(const ModelDiagnostics& diagnostics) {
  fmt::print("{:>5} {:>7} {:>6} {:>7} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8}\n", "layer", "F-Attn",
             "sinks", "logit", "attention", "middle", "ffn", "output", "massive", "|Y|", "|Y'|", "Y<1e-2", "Y'<1e-2");
  for (size_t i = 0; i < diagnostics.layers.size(); ++i) {
    const LayerDiagnostics& layer = diagnostics.layers[i];
    fmt::print(
        "{:>5} {:>7.4f} {:>6} {:>7.2f} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.3f} {:>7} {:>8.4f} {:>8.4f} {:>8.4f} {:>8.4f}\n",
        i, layer.first_token_attention, layer.sinks(), layer.attention_logit_max, layer.attention_output_max,
        layer.middle_max, layer.mlp_output_max, layer.residual_max, layer.massive ? "yes" : "no",
        layer.head_output.mean, layer.gated_output.mean, layer.head_output.below_hundredth,
        layer.gated_output.below_hundredth);
  }
  print_gates(diagnostics);
  fmt::print("\nF-Attn {:.4f}, sink rate {:.4f}, M-Act {:.3f}\n", diagnostics.first_token_attention(),
             diagnostics.sink_rate(), diagnostics.mean_largest_activation());
  if (const auto layer = diagnostics.first_massive_mlp()) {
    fmt::print("layer {} is the first whose feed-forward layer adds more than 100\n", *layer);
  }
}

nlohmann::ordered_json diagnostics_json(const ModelDiagnostics& diagnostics) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerDiagnostics& layer : diagnostics.layers) layers.push_back(layer_json(layer));
  nlohmann::ordered_json out = {{"first_token_attention", diagnostics.first_token_attention()},
                                {"sink_rate", diagnostics.sink_rate()},
                                {"m_act", diagnostics.mean_largest_activation()},
                                {"first_massive_mlp", nullptr},
                                {"layers", layers}};
  if (const auto layer = diagnostics.first_massive_mlp()) out["first_massive_mlp"] = *layer;
  return out;
}

}  // namespace sluice
