#include "models/weight_map.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>

#include "kernels/core/error.h"
#include "models/gate.h"
#include "models/parameters.h"

namespace sluice {
namespace {

/// Fills the table, a parameter of ours at a time.
class Table {
 public:
  explicit Table(const ModelConfig& config) : config_(config) {}

  void add(const ParameterRecord& r) {
    const std::string stem = r.name.substr(0, r.name.rfind("mlp."));
    if (r.name.ends_with("self_attn.q_proj.weight")) {
      add_queries(r);
    } else if (r.name.ends_with("mlp.gate_up_proj.weight")) {
      add_halves(r, 0, stem + "mlp.");
    } else if (r.name.ends_with("mlp.router.weight")) {
      add_run(r, 0, stem + "mlp.gate.weight", r.global_shape);
    } else if (r.name.ends_with("mlp.experts.gate_up_proj")) {
      for (int64_t e = 0; e < r.global_shape[0]; ++e) add_halves(r, e, expert(stem, e));
    } else if (r.name.ends_with("mlp.experts.down_proj")) {
      const std::vector<int64_t> shape{r.global_shape[1], r.global_shape[2]};
      for (int64_t e = 0; e < r.global_shape[0]; ++e) {
        add_run(r, e * shape[0] * shape[1], expert(stem, e) + "down_proj.weight", shape);
      }
    } else if (!r.name.ends_with("self_attn.gates.g1.weight")) {
      INVARIANT(has_same_name(r.name), "there is no Hugging Face name for ", r.name);
      add_run(r, 0, r.name, r.global_shape);
    }
  }
  std::vector<ForeignTensor> take() { return std::move(tensors_); }

 private:
  static std::string expert(const std::string& stem, int64_t e) {
    return stem + "mlp.experts." + std::to_string(e) + ".";
  }

  static bool has_same_name(const std::string& name) {
    constexpr std::array kSame = {"model.embed_tokens.weight",
                                  "model.norm.weight",
                                  "lm_head.weight",
                                  ".input_layernorm.weight",
                                  ".self_attn.k_proj.weight",
                                  ".self_attn.v_proj.weight",
                                  ".self_attn.q_norm.weight",
                                  ".self_attn.k_norm.weight",
                                  ".self_attn.o_proj.weight",
                                  ".mlp.down_proj.weight",
                                  ".post_attention_layernorm.weight"};
    return std::any_of(kSame.begin(), kSame.end(), [&](const char* end) { return name.ends_with(end); });
  }

  /// A tensor that is one run.
  void add_run(const ParameterRecord& r, int64_t first, std::string name, std::vector<int64_t> shape) {
    ForeignTensor& tensor = tensors_.emplace_back(ForeignTensor{std::move(name), std::move(shape), {}});
    tensor.runs.push_back({r.name, first, tensor.count()});
  }

  /// gate_proj and up_proj out of matrix `index` of a stack, or of one.
  void add_halves(const ParameterRecord& r, int64_t index, const std::string& stem) {
    const size_t axes = r.global_shape.size();
    const int64_t width = r.global_shape[axes - 2] / 2, hidden = r.global_shape[axes - 1];
    add_run(r, 2 * index * width * hidden, stem + "gate_proj.weight", {width, hidden});
    add_run(r, (2 * index + 1) * width * hidden, stem + "up_proj.weight", {width, hidden});
  }

  void add_queries(const ParameterRecord& r) {
    const GateSpec* gate = find_gate(config_, GateSpec::G1);
    if (!gate) return add_run(r, 0, r.name, r.global_shape);
    const int64_t groups = config_.num_key_value_heads(), heads = config_.num_attention_heads() / groups;
    const int64_t gate_rows = gate->granularity() == GateSpec::HEADWISE ? heads : heads * config_.head_dim();
    const int64_t hidden = r.global_shape[1], query_count = heads * config_.head_dim() * hidden;
    const std::string gates = r.name.substr(0, r.name.rfind("q_proj")) + "gates.g1.weight";
    ForeignTensor& tensor =
        tensors_.emplace_back(ForeignTensor{r.name, {r.global_shape[0] + groups * gate_rows, hidden}, {}});
    for (int64_t g = 0; g < groups; ++g) {
      tensor.runs.push_back({r.name, g * query_count, query_count});
      tensor.runs.push_back({gates, g * gate_rows * hidden, gate_rows * hidden});
    }
  }

  const ModelConfig& config_;
  std::vector<ForeignTensor> tensors_;
};

}  // namespace

int64_t ForeignTensor::count() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::vector<ForeignTensor> hugging_face_tensors(const ModelConfig& config) {
  Table table(config);
  for (const ParameterRecord& r : parameter_records(config)) table.add(r);
  return table.take();
}

std::map<std::string, std::vector<WeightRun>> inverted(const std::vector<ForeignTensor>& tensors) {
  /// A run of a foreign tensor, and where its first element lies in the parameter.
  using Placed = std::pair<int64_t, WeightRun>;
  std::map<std::string, std::vector<Placed>> placed;
  for (const ForeignTensor& tensor : tensors) {
    int64_t at = 0;
    for (const WeightRun& run : tensor.runs) {
      placed[run.tensor].push_back({run.first, {tensor.name, at, run.count}});
      at += run.count;
    }
  }
  std::map<std::string, std::vector<WeightRun>> runs;
  for (auto& [parameter, parts] : placed) {
    std::sort(parts.begin(), parts.end(), [](const Placed& a, const Placed& b) { return a.first < b.first; });
    int64_t covered = 0;
    for (Placed& part : parts) {
      INVARIANT(part.first == covered, parameter, ": element ", covered, " is not in one foreign tensor");
      covered += part.second.count;
      runs[parameter].push_back(std::move(part.second));
    }
  }
  return runs;
}

}  // namespace sluice
