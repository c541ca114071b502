#include "models/parameters.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "kernels/core/parallel_for.h"
#include "kernels/core/philox.h"
#include "kernels/elementwise.h"

namespace sluice {
namespace {

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

int64_t gate_logits(const ModelConfig& c, const GateSpec& gate) {
  if (gate.position() == GateSpec::G5) return c.hidden_size();
  const bool of_queries = gate.position() == GateSpec::G1 || gate.position() == GateSpec::G4;
  const int64_t heads = of_queries ? c.num_attention_heads() : c.num_key_value_heads();
  return gate.granularity() == GateSpec::HEADWISE ? heads : heads * c.head_dim();
}

/// The gate that a parameter belongs to; null: none.
const GateSpec* gate_of(const ModelConfig& c, std::string_view name) {
  for (const GateSpec& gate : c.gates()) {
    if (name.find("gates.g" + std::to_string(gate.position()) + ".") != std::string_view::npos) return &gate;
  }
  return nullptr;
}

/// Shapes of a configuration, under the names that for_each_parameter gives.
std::vector<int64_t> global_shape(const ModelConfig& c, std::string_view name) {
  const int64_t hidden = c.hidden_size();
  const int64_t query_width = c.num_attention_heads() * c.head_dim();
  const int64_t key_width = c.num_key_value_heads() * c.head_dim();
  if (name == "model.embed_tokens.weight" || name == "lm_head.weight") return {c.vocab_size(), hidden};
  for (const char* of_heads : {".q_norm.weight", ".k_norm.weight", ".head_norm.weight"}) {
    if (ends_with(name, of_heads)) return {c.head_dim()};
  }
  if (ends_with(name, "norm.weight")) return {hidden};
  if (ends_with(name, "q_proj.weight")) return {query_width, hidden};
  const int64_t pool = c.has_switch_head() ? c.switch_head().num_experts() : 1;
  if (ends_with(name, "k_proj.weight")) return {key_width * (switches_keys(c) ? pool : 1), hidden};
  if (ends_with(name, "v_proj.weight")) return {key_width * pool, hidden};
  if (ends_with(name, "k_router.weight") || ends_with(name, "v_router.weight")) {
    return {c.num_key_value_heads() * pool, hidden};
  }
  if (ends_with(name, "o_proj.weight")) return {hidden, query_width};
  if (ends_with(name, "mlp.router.weight")) return {c.moe().num_experts(), hidden};
  if (ends_with(name, "router.selection_bias")) return {c.moe().num_experts()};
  if (ends_with(name, "experts.gate_up_proj")) {
    return {c.moe().num_experts(), 2 * c.moe().moe_intermediate_size(), hidden};
  }
  if (ends_with(name, "experts.down_proj")) return {c.moe().num_experts(), hidden, c.moe().moe_intermediate_size()};
  const int64_t shared_width = c.moe().shared_expert_intermediate_size();
  if (ends_with(name, "shared_expert.gate_up_proj.weight")) return {2 * shared_width, hidden};
  if (ends_with(name, "shared_expert.down_proj.weight")) return {hidden, shared_width};
  if (ends_with(name, "shared_expert_gate.weight")) return {1, hidden};
  if (ends_with(name, "mlp.gate_up_proj.weight")) return {2 * c.intermediate_size(), hidden};
  if (ends_with(name, "mlp.down_proj.weight")) return {hidden, c.intermediate_size()};
  if (const GateSpec* gate = gate_of(c, name)) {
    if (ends_with(name, ".bias")) return {gate_logits(c, *gate)};
    return {gate_logits(c, *gate), hidden};
  }
  INVARIANT(false, "no shape for parameter ", name);
  return {};
}

Shape to_shape(const std::vector<int64_t>& dims) {
  switch (dims.size()) {
    case 1:
      return {dims[0]};
    case 2:
      return {dims[0], dims[1]};
    default:
      return {dims[0], dims[1], dims[2]};
  }
}

/// What a rank holds of a parameter, taken from the whole by cutting axes.
class Part {
 public:
  explicit Part(const std::vector<int64_t>& global_shape)
      : boxes_{{std::vector<int64_t>(global_shape.size(), 0), global_shape}}, shape_(global_shape) {}

  /// Part `index` of `parts` equal ones along an axis.
  Part& cut(size_t axis, int64_t index, int64_t parts) {
    const int64_t width = shape_[axis] / parts;
    for (Box& box : boxes_) {
      box.begin[axis] += index * width;
      box.end[axis] = box.begin[axis] + width;
    }
    shape_[axis] = width;
    return *this;
  }
  /// cut() of each half of the last but one axis, which stacks the rows of gate_proj and up_proj; of every expert.
  Part& cut_halves(int64_t index, int64_t parts) {
    if (parts == 1) return *this;
    const size_t rows = shape_.size() - 2;
    std::vector<Box> cut;
    for (const Box& box : boxes_) {
      const int64_t experts = rows == 1 ? box.end[0] - box.begin[0] : 1;
      const int64_t half = (box.end[rows] - box.begin[rows]) / 2, width = half / parts;
      for (int64_t e = 0; e < experts; ++e) {
        for (int64_t begin : {box.begin[rows] + index * width, box.begin[rows] + half + index * width}) {
          Box& one = cut.emplace_back(box);
          if (rows == 1) one.begin[0] = box.begin[0] + e, one.end[0] = one.begin[0] + 1;
          one.begin[rows] = begin, one.end[rows] = begin + width;
        }
      }
    }
    boxes_ = std::move(cut);
    shape_[rows] /= parts;
    return *this;
  }

  const std::vector<Box>& boxes() const { return boxes_; }
  Shape shape() const { return to_shape(shape_); }

 private:
  std::vector<Box> boxes_;
  std::vector<int64_t> shape_;
};

bool of_key_value_heads(const std::string& name) {
  for (const char* part : {".k_proj.", ".v_proj.", ".k_router.", ".v_router.", ".gates.g2.", ".gates.g3."}) {
    if (name.find(part) != std::string::npos) return true;
  }
  return false;
}

/// Cuts a parameter for the rank at `at`, and says who else holds the same.
Part cut_parameter(const MeshShape& mesh, const MeshPlace& at, const std::string& name,
                   const std::vector<int64_t>& global_shape, Replicas& replicas) {
  Part part(global_shape);
  if (name.find(".experts.") != std::string::npos) {
    replicas = Replicas::kEdp;
    part.cut(0, at.ep, mesh.ep);
    return ends_with(name, "down_proj") ? part.cut(2, at.etp, mesh.etp) : part.cut_halves(at.etp, mesh.etp);
  }
  replicas = Replicas::kWorld;
  const bool of_tokens = ends_with(name, "mlp.router.weight") || ends_with(name, "shared_expert_gate.weight") ||
                         name.find(".gates.g5.") != std::string::npos;
  const bool of_heads = name.find(".gates.") != std::string::npos && !of_tokens;
  if (of_tokens || (global_shape.size() == 1 && !of_heads)) return part;
  replicas = Replicas::kDp;
  if (of_key_value_heads(name)) {
    if (mesh.kv_copies > 1) replicas = Replicas::kKeyValue;
    return part.cut(0, at.tp / mesh.kv_copies, mesh.tp / mesh.kv_copies);
  }
  if (ends_with(name, ".gate_up_proj.weight")) return part.cut_halves(at.tp, mesh.tp);
  const bool row_parallel = ends_with(name, "o_proj.weight") || ends_with(name, ".down_proj.weight");
  return part.cut(row_parallel ? 1 : 0, at.tp, mesh.tp);
}

int stage_of(const ModelConfig& c, const std::string& name) {
  const Stages stages(c);
  constexpr std::string_view kLayers = "model.layers.";
  if (name == "model.embed_tokens.weight") return stages.embedding();
  if (name.rfind(kLayers, 0) != 0) return stages.head();
  return stages.block(std::stoll(name.substr(kLayers.size())));
}

ParameterRecord make_record(const ModelConfig& c, const std::string& name, bool decay_embeddings, const MeshShape& mesh,
                            const MeshPlace& at) {
  ParameterRecord r;
  r.name = name;
  r.global_shape = global_shape(c, name);
  const Part part = cut_parameter(mesh, at, name, r.global_shape, r.replicas);
  r.boxes = part.boxes();
  r.shape = part.shape();
  r.count = r.shape.count();
  r.stage = stage_of(c, name);
  r.gradient_is_written = r.replicas == Replicas::kEdp;

  const GateSpec* gate = gate_of(c, name);
  const bool is_bias = ends_with(name, "bias");
  const bool is_norm = r.global_shape.size() == 1 && !is_bias;
  const bool is_embedding = name == "model.embed_tokens.weight" || name == "lm_head.weight";
  r.initialisation = is_bias ? Initialisation::kZeros : is_norm ? Initialisation::kOnes : Initialisation::kNormal;
  // Also a gate's constant, which is its bias without a map.
  const bool asked = gate && gate->has_initialisation() && (!is_bias || gate->input() == GateSpec::INPUT_INDEPENDENT);
  if (asked) {
    r.initialisation = gate->initialisation() == GateSpec::ZERO ? Initialisation::kZeros : Initialisation::kNormal;
  }
  r.weight_decay = !is_norm && !is_bias && (decay_embeddings || !is_embedding);
  r.init_std = c.init_std();
  if (c.scale_output_init() && (ends_with(name, "o_proj.weight") || name.find("down_proj") != std::string::npos)) {
    r.init_std /= std::sqrt(2.0 * static_cast<double>(c.num_layers()));
  }
  if (c.has_mup() && !is_norm && !is_bias && !is_embedding) {
    const double ratio = static_cast<double>(c.hidden_size()) / static_cast<double>(c.mup().base_hidden_size());
    r.init_std /= std::sqrt(ratio);
    r.lr_scale = 1 / ratio;
  }
  return r;
}

}  // namespace

std::vector<ParameterRecord> parameter_records(const ModelConfig& config, bool decay_embeddings, const MeshShape& mesh,
                                               int rank) {
  std::vector<ParameterRecord> records;
  ModelTensors names_only;
  names_only.blocks.resize(static_cast<size_t>(config.num_layers()));
  const MeshPlace at = mesh.place(rank);
  for_each_parameter(names_only, config, [&](const std::string& name, Tensor&) {
    records.push_back(make_record(config, name, decay_embeddings, mesh, at));
  });
  return records;
}

ModelTensors bind_parameters(const ModelConfig& config, const std::vector<ParameterRecord>& records,
                             const std::function<Tensor(const ParameterRecord&)>& place) {
  ModelTensors model;
  model.blocks.resize(static_cast<size_t>(config.num_layers()));
  size_t next = 0;
  for_each_parameter(model, config, [&](const std::string& name, Tensor& tensor) {
    const ParameterRecord& r = records.at(next++);
    INVARIANT(r.name == name, "record ", r.name, " stands where ", name, " belongs");
    tensor = place(r).reshaped(r.shape);
  });
  return model;
}

ModelTensors bind_parameters(const ModelConfig& config, const std::vector<ParameterRecord>& records, Tensor flat) {
  return bind_parameters(config, records, [&](const ParameterRecord& r) { return flat.rows(r.flat_begin, r.count); });
}

namespace {

/// Elements [begin, begin + count) of the whole parameter.
template <class T>
void fill_initial(const ParameterRecord& r, const Philox& random, int64_t begin, int64_t count, T* w) {
  if (r.initialisation != Initialisation::kNormal) {
    std::fill(w, w + count, r.initialisation == Initialisation::kOnes ? T{1} : T{0});
    return;
  }
  for (int64_t block = begin / 4 * 4; block < begin + count; block += 4) {
    const std::array<double, 4> z = random.normals(static_cast<uint64_t>(block / 4));
    // Rounded to f32 first, so that an f64 run starts from the same numbers.
    for (int64_t i = std::max(block, begin); i < std::min(block + 4, begin + count); ++i) {
      w[i - begin] = static_cast<float>(r.init_std * z[static_cast<size_t>(i - block)]);
    }
  }
}

}  // namespace

void initialise_parameters(const std::vector<ParameterRecord>& records, uint64_t seed, Stream& s, Tensor flat) {
  fill_zero(s, flat);
  dispatch_float(flat.dtype, [&]<class T>() {
    for (const ParameterRecord& r : records) {
      const Philox random(seed, r.name);
      T* w = flat.as<T>() + r.flat_begin;
      for_each_run(r.global_shape, r.boxes, [&](int64_t place, int64_t run) {
        parallel_for(s, run, 1024, [&](int64_t begin, int64_t end, int) {
          fill_initial(r, random, place + begin, end - begin, w + begin);
        });
        w += run;
      });
    }
  });
}

}  // namespace sluice
