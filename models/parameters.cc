#include "models/parameters.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "kernels/core/parallel_for.h"
#include "kernels/core/philox.h"
#include "kernels/elementwise.h"

namespace sluice {
namespace {

constexpr int64_t kFlatAlignment = 16;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::vector<int64_t> gate_shape(const ModelConfig& c, const GateSpec& gate) {
  const bool headwise = gate.granularity() == GateSpec::HEADWISE;
  switch (gate.position()) {
    case GateSpec::G1:
    case GateSpec::G4:
      return {c.num_attention_heads() * (headwise ? 1 : c.head_dim()), c.hidden_size()};
    case GateSpec::G2:
    case GateSpec::G3:
      return {c.num_key_value_heads() * (headwise ? 1 : c.head_dim()), c.hidden_size()};
    case GateSpec::G5:
      return {c.hidden_size(), c.hidden_size()};
  }
  return {};
}

/// Shapes of a configuration, under the names that for_each_parameter gives.
std::vector<int64_t> global_shape(const ModelConfig& c, std::string_view name) {
  const int64_t hidden = c.hidden_size();
  const int64_t query_width = c.num_attention_heads() * c.head_dim();
  const int64_t key_width = c.num_key_value_heads() * c.head_dim();
  if (name == "model.embed_tokens.weight" || name == "lm_head.weight") return {c.vocab_size(), hidden};
  if (ends_with(name, "q_norm.weight") || ends_with(name, "k_norm.weight")) return {c.head_dim()};
  if (ends_with(name, "norm.weight")) return {hidden};
  if (ends_with(name, "q_proj.weight")) return {query_width, hidden};
  if (ends_with(name, "k_proj.weight") || ends_with(name, "v_proj.weight")) return {key_width, hidden};
  if (ends_with(name, "o_proj.weight")) return {hidden, query_width};
  if (ends_with(name, "mlp.router.weight")) return {c.moe().num_experts(), hidden};
  if (ends_with(name, "experts.gate_up_proj")) {
    return {c.moe().num_experts(), 2 * c.moe().moe_intermediate_size(), hidden};
  }
  if (ends_with(name, "experts.down_proj")) return {c.moe().num_experts(), hidden, c.moe().moe_intermediate_size()};
  if (ends_with(name, "mlp.gate_up_proj.weight")) return {2 * c.intermediate_size(), hidden};
  if (ends_with(name, "mlp.down_proj.weight")) return {hidden, c.intermediate_size()};
  for (const GateSpec& gate : c.gates()) {
    if (ends_with(name, "gates.g" + std::to_string(gate.position()) + ".weight")) return gate_shape(c, gate);
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

ParameterRecord make_record(const ModelConfig& c, const std::string& name, bool decay_embeddings) {
  ParameterRecord r;
  r.name = name;
  r.global_shape = global_shape(c, name);
  r.boxes = {{std::vector<int64_t>(r.global_shape.size(), 0), r.global_shape}};
  r.count = r.global_count();
  if (name.find(".experts.") != std::string::npos) r.folding = Folding::kExpert;

  const bool is_norm = r.global_shape.size() == 1;
  const bool is_embedding = name == "model.embed_tokens.weight" || name == "lm_head.weight";
  r.initialisation = is_norm ? Initialisation::kOnes : Initialisation::kNormal;
  r.weight_decay = !is_norm && (decay_embeddings || !is_embedding);
  r.init_std = c.init_std();
  if (c.scale_output_init() && (ends_with(name, "o_proj.weight") || name.find("down_proj") != std::string::npos)) {
    r.init_std /= std::sqrt(2.0 * static_cast<double>(c.num_layers()));
  }
  if (c.has_mup() && !is_norm && !is_embedding) {
    const double ratio = static_cast<double>(c.hidden_size()) / static_cast<double>(c.mup().base_hidden_size());
    r.init_std /= std::sqrt(ratio);
    r.lr_scale = 1 / ratio;
  }
  return r;
}

}  // namespace

std::vector<ParameterRecord> parameter_records(const ModelConfig& config, bool decay_embeddings) {
  std::vector<ParameterRecord> records;
  ModelTensors names_only;
  names_only.blocks.resize(static_cast<size_t>(config.num_layers()));
  int64_t begin = 0;
  for_each_parameter(names_only, config, [&](const std::string& name, Tensor&) {
    ParameterRecord r = make_record(config, name, decay_embeddings);
    r.flat_begin = begin;
    begin += (r.count + kFlatAlignment - 1) / kFlatAlignment * kFlatAlignment;
    records.push_back(std::move(r));
  });
  return records;
}

int64_t flat_count(const std::vector<ParameterRecord>& records) {
  if (records.empty()) return 0;
  const ParameterRecord& last = records.back();
  return (last.flat_begin + last.count + kFlatAlignment - 1) / kFlatAlignment * kFlatAlignment;
}

ModelTensors bind_parameters(const ModelConfig& config, const std::vector<ParameterRecord>& records, Tensor flat) {
  expect("flat", flat, flat.dtype, {flat_count(records)});
  ModelTensors model;
  model.blocks.resize(static_cast<size_t>(config.num_layers()));
  size_t next = 0;
  for_each_parameter(model, config, [&](const std::string& name, Tensor& tensor) {
    const ParameterRecord& r = records.at(next++);
    INVARIANT(r.name == name, "record ", r.name, " stands where ", name, " belongs");
    tensor = flat.rows(r.flat_begin, r.count).reshaped(to_shape(r.global_shape));
  });
  return model;
}

namespace {

/// Elements [begin, end) of a parameter; begin is a multiple of 4.
template <class T>
void fill_initial(const ParameterRecord& r, const Philox& random, int64_t begin, int64_t end, T* w) {
  if (r.initialisation != Initialisation::kNormal) {
    std::fill(w + begin, w + end, r.initialisation == Initialisation::kOnes ? T{1} : T{0});
    return;
  }
  for (int64_t block = begin; block < end; block += 4) {
    const std::array<double, 4> z = random.normals(static_cast<uint64_t>(block / 4));
    // Rounded to f32 first, so that an f64 run starts from the same numbers.
    for (int64_t i = block; i < std::min(block + 4, end); ++i) {
      w[i] = static_cast<float>(r.init_std * z[static_cast<size_t>(i - block)]);
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
      parallel_for(s, r.count, 1024, [&](int64_t begin, int64_t end, int) { fill_initial(r, random, begin, end, w); });
    }
  });
}

}  // namespace sluice
