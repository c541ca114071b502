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
          {"below_0.5", gate.below_half},    {"lowest", gate.lowest},   {"highest", gate.highest},
          {"density", gate.density}};
}

nlohmann::ordered_json gates_json(const std::vector<GateDiagnostics>& gates) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const GateDiagnostics& gate : gates) out.push_back(gate_json(gate));
  return out;
}

nlohmann::ordered_json layer_json(const LayerDiagnostics& layer) {
  nlohmann::ordered_json out = {{"first_token_attention", layer.first_token_attention},
                                {"head_sinks", layer.head_sinks},
                                {"attention_logit_max", layer.attention_logit_max},
                                {"gates", gates_json(layer.gates)},
                                {"attention_output_max", layer.attention_output_max},
                                {"middle_max", layer.middle_max},
                                {"mlp_output_max", layer.mlp_output_max},
                                {"residual_max", layer.residual_max},
                                {"massive", layer.massive},
                                {"head_output", magnitudes(layer.head_output)},
                                {"gated_output", magnitudes(layer.gated_output)}};
  if (layer.output_by_mean_gate) out["output_by_mean_gate"] = magnitudes(*layer.output_by_mean_gate);
  if (layer.router_entropy) out["router_entropy"] = *layer.router_entropy;
  if (layer.expert_load_max_over_mean) out["expert_load_max_over_mean"] = *layer.expert_load_max_over_mean;
  if (!layer.attention_map.empty()) out["attention_map"] = layer.attention_map;
  return out;
}

void print_layers(const ModelDiagnostics& diagnostics) {
  fmt::print("{:>5} {:>7} {:>6} {:>7} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8} {:>8}\n", "layer", "F-Attn", "sinks", "logit",
             "attention", "middle", "ffn", "output", "massive", "entropy", "load");
  const auto or_dash = [](const std::optional<double>& x) { return x ? fmt::format("{:.4f}", *x) : "-"; };
  for (size_t i = 0; i < diagnostics.layers.size(); ++i) {
    const LayerDiagnostics& layer = diagnostics.layers[i];
    fmt::print("{:>5} {:>7.4f} {:>6} {:>7.2f} {:>9.3f} {:>9.3f} {:>9.3f} {:>9.3f} {:>7} {:>8} {:>8}\n", i,
               layer.first_token_attention, layer.head_sinks.empty() ? "-" : std::to_string(layer.sinks()),
               layer.attention_logit_max, layer.attention_output_max, layer.middle_max, layer.mlp_output_max,
               layer.residual_max, layer.massive ? "yes" : "no", or_dash(layer.router_entropy),
               or_dash(layer.expert_load_max_over_mean));
  }
}

void print_magnitudes(size_t layer, const char* of, const MagnitudeDiagnostics& m) {
  fmt::print("{:>5} {:>14} {:>8.4f} {:>7.4f} {:>7.4f}\n", layer, of, m.mean, m.below_hundredth, m.below_thousandth);
}

/// What comes from the attention heads before and behind the gate, and what a gate of the same mean would make of it.
void print_head_outputs(const ModelDiagnostics& diagnostics) {
  fmt::print("\n{:>5} {:>14} {:>8} {:>7} {:>7}\n", "layer", "head output", "mean |x|", "< 1e-2", "< 1e-3");
  for (size_t i = 0; i < diagnostics.layers.size(); ++i) {
    const LayerDiagnostics& layer = diagnostics.layers[i];
    print_magnitudes(i, "before", layer.head_output);
    print_magnitudes(i, "behind", layer.gated_output);
    if (layer.output_by_mean_gate) print_magnitudes(i, "by mean gate", *layer.output_by_mean_gate);
  }
}

void print_gate(const std::string& layer, const GateDiagnostics& gate) {
  fmt::print("{:>5} {:>5} {:>8.4f} {:>9.4f} {:>9.4f} {:>8.4f} {:>7.4f} {:>7.4f}\n", layer, text(gate.position),
             gate.mean, gate.deviation, gate.smallest, gate.largest, gate.below_tenth, gate.below_half);
}

void print_gates(const ModelDiagnostics& diagnostics) {
  if (diagnostics.gates.empty()) return;
  fmt::print("\n{:>5} {:>5} {:>8} {:>9} {:>9} {:>8} {:>7} {:>7}\n", "layer", "gate", "mean", "deviation", "smallest",
             "largest", "< 0.1", "< 0.5");
  for (size_t i = 0; i < diagnostics.layers.size(); ++i) {
    for (const GateDiagnostics& gate : diagnostics.layers[i].gates) print_gate(std::to_string(i), gate);
  }
  for (const GateDiagnostics& gate : diagnostics.gates) print_gate("all", gate);
}

}  // namespace

void print_diagnostics(const ModelDiagnostics& diagnostics) {
  print_layers(diagnostics);
  print_head_outputs(diagnostics);
  print_gates(diagnostics);
  const std::optional<double> sinks = diagnostics.sink_rate();
  fmt::print("\nF-Attn {:.4f} (of uniform attention {:.4f}), sink rate {}, M-Act {:.3f}\n",
             diagnostics.first_token_attention(), diagnostics.uniform_first_token_attention(),
             sinks ? fmt::format("{:.4f}", *sinks) : "- (no document has 65 tokens)",
             diagnostics.mean_largest_activation());
  if (const auto layer = diagnostics.first_massive_mlp()) {
    fmt::print("layer {} is the first whose feed-forward layer adds more than 100\n", *layer);
  }
}

nlohmann::ordered_json diagnostics_json(const ModelDiagnostics& diagnostics) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerDiagnostics& layer : diagnostics.layers) layers.push_back(layer_json(layer));
  nlohmann::ordered_json out = {{"first_token_attention", diagnostics.first_token_attention()},
                                {"uniform_first_token_attention", diagnostics.uniform_first_token_attention()},
                                {"sink_rate", nullptr},
                                {"m_act", diagnostics.mean_largest_activation()},
                                {"first_massive_mlp", nullptr},
                                {"gates", gates_json(diagnostics.gates)},
                                {"layers", layers}};
  if (const auto rate = diagnostics.sink_rate()) out["sink_rate"] = *rate;
  if (const auto layer = diagnostics.first_massive_mlp()) out["first_massive_mlp"] = *layer;
  return out;
}

}  // namespace sluice
