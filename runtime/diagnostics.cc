#include "runtime/diagnostics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "kernels/diagnostics.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "kernels/router.h"

namespace sluice {
namespace {

constexpr int64_t kSinkSpan = 64;    // positions over which a head's sink is taken [gu2024]
constexpr int64_t kCheapTokens = 4;  // of so many the cheap diagnostics take the attention and scores of one
constexpr double kMassive = 100, kMassiveMedians = 1000;

/// Sums over a layer's routing; the tokens of each expert follow.
enum RoutingSum : int64_t { kEntropy, kRoutedTokens, kExpertCounts };

/// Maxima of a layer; two of each gate follow.
enum Maximum : int64_t { kLogit, kResidual, kMiddle, kAttentionOutput, kMlpOutput, kMassiveFlag, kGateExtremes };

const GateSaved& gate_saved(const BlockSaved& block, GateSpec::Position position) {
  switch (position) {
    case GateSpec::G1:
      return block.attention.out_gate;
    case GateSpec::G2:
      return block.attention.v.gate;
    case GateSpec::G3:
      return block.attention.k.gate;
    case GateSpec::G4:
      return block.attention.q.gate;
    case GateSpec::G5:
      break;
  }
  return block.attention_path.gate;
}

/// Raises `most` to x; NaN stays.
void raise_to(double x, double& most) {
  if (!(x <= most) && !std::isnan(most)) most = x;
}

double share(double part, double of) { return of > 0 ? part / of : std::nan(""); }

MagnitudeDiagnostics magnitudes_of(const double* sums) {
  const double count = sums[kMagnitudeCount];
  return {share(sums[kMagnitudeTotal], count), share(sums[kBelowHundredth], count),
          share(sums[kBelowThousandth], count)};
}

Tensor view(std::vector<double>& values) {
  return {values.data(), DType::kF64, Device::kCpu, {static_cast<int64_t>(values.size())}};
}

}  // namespace

double ModelDiagnostics::first_token_attention() const {
  double sum = 0;
  for (const LayerDiagnostics& layer : layers) sum += layer.first_token_attention;
  return sum / static_cast<double>(layers.size());
}

int64_t LayerDiagnostics::sinks(double threshold) const {
  return std::count_if(head_sinks.begin(), head_sinks.end(), [&](double sink) { return sink > threshold; });
}

std::optional<double> ModelDiagnostics::sink_rate() const {
  int64_t sinks = 0;
  size_t heads = 0;
  for (const LayerDiagnostics& layer : layers) sinks += layer.sinks(), heads += layer.head_sinks.size();
  return heads ? std::optional<double>(static_cast<double>(sinks) / static_cast<double>(heads)) : std::nullopt;
}

std::optional<int64_t> ModelDiagnostics::first_massive_mlp() const {
  const auto found = std::find_if(layers.begin(), layers.end(),
                                  [](const LayerDiagnostics& layer) { return layer.mlp_output_max > kMassive; });
  return found == layers.end() ? std::nullopt : std::optional<int64_t>(found - layers.begin());
}

double ModelDiagnostics::mean_largest_activation() const {
  double sum = 0;
  for (const LayerDiagnostics& layer : layers) sum += layer.residual_max;
  return sum / static_cast<double>(layers.size());
}

void add_diagnostics(const ModelDiagnostics& diagnostics, StepMetrics& metrics) {
  LayerMetrics& layers = metrics.layers;
  for (size_t i = 0; i < diagnostics.layers.size(); ++i) {
    const LayerDiagnostics& layer = diagnostics.layers[i];
    layers.first_token_attention.push_back(layer.first_token_attention);
    layers.max_activation.push_back(layer.residual_max);
    layers.attention_logit_max.push_back(layer.attention_logit_max);
    for (const GateDiagnostics& gate : layer.gates) {
      const bool first = &gate == &layer.gates.front();
      const std::string position = GateSpec::Position_Name(gate.position), suffix = first ? "" : "." + position;
      (first ? layers.gate_mean : layers.gates["gate_mean" + suffix]).push_back(gate.mean);
      layers.gates["gate_std" + suffix].push_back(gate.deviation);
      layers.gates["gate_below_0.1" + suffix].push_back(gate.below_tenth);
      ScoreHistogram& scores = metrics.gate_scores.emplace_back();
      scores.tag = fmt::format("gate_scores/{}/layer_{:02}", position, i);
      const double bin = (gate.highest - gate.lowest) / kScoreBins;
      for (double density : gate.density) scores.counts.push_back(std::round(density * bin * gate.count));
      scores.lowest_bin = gate.lowest;
      scores.highest_bin = gate.highest;
      scores.smallest = gate.smallest;
      scores.largest = gate.largest;
      scores.sum = gate.mean * gate.count;
      scores.sum_squares = (gate.deviation * gate.deviation + gate.mean * gate.mean) * gate.count;
    }
  }
}

DiagnosticsProbe::DiagnosticsProbe(const ModelConfig& config, const Mesh& mesh, Detail detail, int64_t skip)
    : config_(config),
      mesh_(mesh),
      detail_(detail),
      every_(detail == Detail::kCheap ? kCheapTokens : 1),
      skip_(skip),
      gates_at_(config.num_attention_heads() * kFirstKeySums),
      magnitudes_at_(gates_at_ + config.gates_size() * kScoreSums),
      routing_at_(magnitudes_at_ + 3 * kMagnitudeSums),
      sums_a_layer_(routing_at_ + kExpertCounts + (config.has_moe() ? config.moe().num_experts() : 0)),
      maxima_a_layer_(kGateExtremes + 2 * config.gates_size()),
      sums_(static_cast<size_t>(config.num_layers() * sums_a_layer_)),
      maxima_(static_cast<size_t>(config.num_layers() * maxima_a_layer_), -HUGE_VAL) {}

Tensor DiagnosticsProbe::sums(int64_t layer, int64_t at, Shape shape) {
  return {sums_.data() + layer * sums_a_layer_ + at, DType::kF64, Device::kCpu, shape};
}

void DiagnosticsProbe::raise(Stream& s, int64_t layer, int64_t which, Tensor x) {
  if (x.count() == 0) return;
  double largest = 0;
  max_abs(s, x, {&largest, DType::kF64, Device::kCpu, {1}});
  raise_to(largest, maxima_[static_cast<size_t>(layer * maxima_a_layer_ + which)]);
}

void DiagnosticsProbe::see_block(StepContext& ctx, int64_t layer, const TokenBatch& batch, const BlockSaved& block,
                                 Tensor y) {
  const AttentionSaved& attention = block.attention;
  const int64_t heads = attention.lse.dim(1);
  first_key_attention(ctx.stream, attention_input(config_, batch, attention), attention.lse, every_, skip_, kSinkSpan,
                      sums(layer, ctx.mesh.place().tp * heads * kFirstKeySums, {heads, kFirstKeySums}));
  if (attention.largest.count() > 0) {
    double logit = 0;
    largest_element(ctx.stream, attention.largest, {&logit, DType::kF64, Device::kCpu, {1}});
    raise_to(logit, maxima_[static_cast<size_t>(layer * maxima_a_layer_ + kLogit)]);
  }
  see_gates(ctx.stream, layer, block);
  raise(ctx.stream, layer, kResidual, y);
  if (detail_ == Detail::kCheap) return;
  see_map(ctx.stream, layer, attention_input(config_, batch, attention), attention.lse);
  see_magnitudes(ctx.stream, layer, attention);
  see_residual(ctx, layer, block, y);
  if (config_.has_moe()) see_routing(ctx.stream, layer, block.routing);
}

void DiagnosticsProbe::map_attention(const AttentionMap& wanted) {
  map_positions_ = wanted.positions();
  for (int64_t layer : wanted.layers()) {
    maps_[layer].assign(static_cast<size_t>((map_positions_ + 1) * map_positions_), 0.0);
  }
}

void DiagnosticsProbe::see_map(Stream& s, int64_t layer, const AttentionInput& in, Tensor lse) {
  const auto found = maps_.find(layer);
  if (found == maps_.end()) return;
  const Tensor all = view(found->second).reshaped({map_positions_ + 1, map_positions_});
  attention_map(s, in, lse, all.rows(0, map_positions_), all.rows(map_positions_, 1).reshaped({map_positions_}));
}

void DiagnosticsProbe::see_routing(Stream& s, int64_t layer, const Routing& routing) {
  const int64_t experts = config_.moe().num_experts();
  std::vector<double> prob_sums(static_cast<size_t>(experts)), moments(2);
  router_sums(s, routing.probs, routing.lse, view(prob_sums), view(moments));
  double* sums = sums_.data() + layer * sums_a_layer_ + routing_at_;
  sums[kEntropy] += moments[1];
  sums[kRoutedTokens] += static_cast<double>(routing.probs.dim(0));
  count_choices(s, routing.indices, {sums + kExpertCounts, DType::kF64, Device::kCpu, {experts}});
}

void DiagnosticsProbe::see_gates(Stream& s, int64_t layer, const BlockSaved& block) {
  for (int i = 0; i < config_.gates_size(); ++i) {
    const GateSpec& spec = config_.gates(i);
    const GateScores scores = gate_scores(spec, gate_saved(block, spec.position()));
    double* extremes = maxima_.data() + layer * maxima_a_layer_ + kGateExtremes + 2 * i;
    // Scores that heads share may be averages, which need no activation.
    score_sums(s, scores.activation, scores.logits, every_, score_range(gate_activation(spec)),
               sums(layer, gates_at_ + i * kScoreSums, {kScoreSums}), {extremes, DType::kF64, Device::kCpu, {2}});
  }
}

void DiagnosticsProbe::see_magnitudes(Stream& s, int64_t layer, const AttentionSaved& attention) {
  const auto place = [&](int64_t which) {
    return sums(layer, magnitudes_at_ + which * kMagnitudeSums, {kMagnitudeSums});
  };
  magnitude_sums(s, attention.out, 1, place(0));
  magnitude_sums(s, attention.gated, 1, place(1));
  if (!mean_gates_.empty()) magnitude_sums(s, attention.out, mean_gates_[static_cast<size_t>(layer)], place(2));
}

void DiagnosticsProbe::see_residual(StepContext& ctx, int64_t layer, const BlockSaved& block, Tensor y) {
  const ArenaScope scope(ctx.scratch);
  const Tensor added = ctx.scratch.alloc("added", y.dtype, y.shape);
  raise(ctx.stream, layer, kMiddle, block.middle);
  difference(ctx.stream, block.middle, block.input, added);
  raise(ctx.stream, layer, kAttentionOutput, added);
  difference(ctx.stream, y, block.middle, added);
  raise(ctx.stream, layer, kMlpOutput, added);
  double massive = 0;
  massive_rows(ctx.stream, y, kMassive, kMassiveMedians, {&massive, DType::kF64, Device::kCpu, {1}});
  raise_to(massive, maxima_[static_cast<size_t>(layer * maxima_a_layer_ + kMassiveFlag)]);
}

void DiagnosticsProbe::set_mean_gates(const ModelDiagnostics& earlier) {
  mean_gates_.clear();
  for (int i = 0; i < config_.gates_size(); ++i) {
    const GateSpec& spec = config_.gates(i);
    if (spec.position() != GateSpec::G1 || spec.combine() != GateSpec::MULTIPLY) continue;
    for (const LayerDiagnostics& layer : earlier.layers)
      mean_gates_.push_back(layer.gates[static_cast<size_t>(i)].mean);
  }
}

double DiagnosticsProbe::copies(const GateSpec& gate) const {
  const MeshShape& mesh = mesh_.shape();
  if (gate.sharing() == GateSpec::HEAD_SHARED) return mesh.tp;
  const bool of_key_value_heads = gate.position() == GateSpec::G2 || gate.position() == GateSpec::G3;
  return of_key_value_heads ? mesh.kv_copies : 1;
}

GateDiagnostics DiagnosticsProbe::gate(const GateSpec& spec, const double* sums, const double* extremes) const {
  const ScoreRange range = score_range(gate_activation(spec));
  const double count = sums[kScoreCount];
  GateDiagnostics gate;
  gate.position = spec.position();
  gate.count = count / copies(spec);
  gate.mean = share(sums[kScoreTotal], count);
  gate.deviation = std::sqrt(std::max(0.0, share(sums[kScoreSquares], count) - gate.mean * gate.mean));
  gate.largest = extremes[0];
  gate.smallest = -extremes[1];
  gate.below_tenth = share(sums[kScoresBelowTenth], count);
  gate.below_half = share(sums[kScoresBelowHalf], count);
  gate.lowest = range.lowest;
  gate.highest = range.highest;
  for (int64_t bin = 0; bin < kScoreBins; ++bin) {
    gate.density.push_back(share(sums[kScoreHistogram + bin], count) * kScoreBins / (range.highest - range.lowest));
  }
  return gate;
}

GateDiagnostics DiagnosticsProbe::gate_of_model(int index) const {
  std::vector<double> sums(static_cast<size_t>(kScoreSums)), extremes(2, -HUGE_VAL);
  for (int64_t layer = 0; layer < config_.num_layers(); ++layer) {
    const double* of_layer = sums_.data() + layer * sums_a_layer_ + gates_at_ + index * kScoreSums;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += of_layer[i];
    const double* extremes_of_layer = maxima_.data() + layer * maxima_a_layer_ + kGateExtremes + 2 * index;
    for (size_t i = 0; i < 2; ++i) raise_to(extremes_of_layer[i], extremes[i]);
  }
  return gate(config_.gates(index), sums.data(), extremes.data());
}

LayerDiagnostics DiagnosticsProbe::layer(int64_t index) const {
  const double* sums = sums_.data() + index * sums_a_layer_;
  const double* maxima = maxima_.data() + index * maxima_a_layer_;
  LayerDiagnostics layer;
  double attention = 0, uniform = 0, queries = 0;
  for (int64_t head = 0; head < config_.num_attention_heads(); ++head) {
    const double* of_head = sums + head * kFirstKeySums;
    attention += of_head[kFirstKeyTotal];
    uniform += of_head[kFirstKeyUniform];
    queries += of_head[kFirstKeyQueries];
    if (of_head[kSinkQueries] > 0) layer.head_sinks.push_back(of_head[kSinkTotal] / of_head[kSinkQueries]);
  }
  layer.first_token_attention = share(attention, queries);
  layer.uniform_first_token_attention = share(uniform, queries);
  layer.attention_logit_max = maxima[kLogit];
  for (int i = 0; i < config_.gates_size(); ++i) {
    layer.gates.push_back(gate(config_.gates(i), sums + gates_at_ + i * kScoreSums, maxima + kGateExtremes + 2 * i));
  }
  layer.residual_max = maxima[kResidual];
  if (detail_ == Detail::kCheap) return layer;
  layer.middle_max = maxima[kMiddle];
  layer.attention_output_max = maxima[kAttentionOutput];
  layer.mlp_output_max = maxima[kMlpOutput];
  if (config_.has_moe()) {
    const double *routing = sums + routing_at_, *counts = routing + kExpertCounts;
    const int64_t experts = config_.moe().num_experts();
    layer.router_entropy = share(routing[kEntropy], routing[kRoutedTokens]);
    const double all = std::accumulate(counts, counts + experts, 0.0);
    layer.expert_load_max_over_mean =
        share(*std::max_element(counts, counts + experts) * static_cast<double>(experts), all);
  }
  layer.massive = maxima[kMassiveFlag] > 0;
  layer.head_output = magnitudes_of(sums + magnitudes_at_);
  layer.gated_output = magnitudes_of(sums + magnitudes_at_ + kMagnitudeSums);
  if (!mean_gates_.empty()) layer.output_by_mean_gate = magnitudes_of(sums + magnitudes_at_ + 2 * kMagnitudeSums);
  if (const auto found = maps_.find(index); found != maps_.end()) {
    const double *map = found->second.data(), *rows = map + map_positions_ * map_positions_;
    for (int64_t i = 0; i < map_positions_ && rows[i] > 0; ++i) {
      std::vector<double>& row =
          layer.attention_map.emplace_back(map + i * map_positions_, map + i * map_positions_ + i + 1);
      for (double& share : row) share /= rows[i];
    }
  }
  return layer;
}

ModelDiagnostics DiagnosticsProbe::finish() {
  mesh_.world().all_reduce(view(sums_)).wait();
  mesh_.world().all_reduce(view(maxima_), ReduceOp::kMax).wait();
  for (auto& [layer, map] : maps_) mesh_.world().all_reduce(view(map)).wait();
  ModelDiagnostics diagnostics;
  for (int64_t i = 0; i < config_.num_layers(); ++i) diagnostics.layers.push_back(layer(i));
  for (int i = 0; i < config_.gates_size(); ++i) diagnostics.gates.push_back(gate_of_model(i));
  std::fill(sums_.begin(), sums_.end(), 0.0);
  std::fill(maxima_.begin(), maxima_.end(), -HUGE_VAL);
  for (auto& [layer, map] : maps_) std::fill(map.begin(), map.end(), 0.0);
  return diagnostics;
}

}  // namespace sluice
