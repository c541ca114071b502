#pragma once

#include <map>
#include <optional>
#include <vector>

#include "models/block.h"
#include "runtime/metrics/step_metrics.h"

namespace sluice {

/// Scores of one gate, over tokens, heads and channels.
struct GateDiagnostics {
  GateSpec::Position position = GateSpec::G1;
  double count = 0, mean = 0, deviation = 0, smallest = 0, largest = 0;
  double below_tenth = 0, below_half = 0;  ///< shares of the scores
  double lowest = 0, highest = 1;          ///< of the histogram
  std::vector<double>
      density;  ///< in equal bins from lowest to highest, with integral 1; what lies outside in the outer
};

/// Magnitudes of the elements of a tensor.
struct MagnitudeDiagnostics {
  double mean = 0;
  double below_hundredth = 0, below_thousandth = 0;  ///< shares of the elements
};

/// What is measured in a layer (paper section 7).
struct LayerDiagnostics {
  double first_token_attention = 0;  ///< mean over heads and queries of the attention to a document's first token; NaN:
                                     ///< no query counts
  double uniform_first_token_attention = 0;  ///< the same of attention that is uniform
  std::vector<double> head_sinks;  ///< [query heads], the same mean of the queries at positions 1..64 of documents that
                                   ///< have them all; empty: there is none
  double attention_logit_max = 0;
  std::vector<GateDiagnostics> gates;  ///< in the order of the configuration
  // Largest magnitudes of what attention adds, of the residual behind it, of what the feed-forward layer adds, and of
  // the layer's output.
  double attention_output_max = 0, middle_max = 0, mlp_output_max = 0, residual_max = 0;
  std::optional<double> router_entropy;             ///< nats, mean over tokens; nothing without experts
  std::optional<double> expert_load_max_over_mean;  ///< tokens of the busiest expert over the mean
  bool massive = false;  ///< an output above 100 and a thousand medians of its token [sun2024]
  MagnitudeDiagnostics head_output, gated_output;  ///< before and behind everything up to o_proj
  std::optional<MagnitudeDiagnostics>
      output_by_mean_gate;                         ///< the first times the mean score of G1, where that is given
  std::vector<std::vector<double>> attention_map;  ///< mean over heads and documents, row i over positions 0..i; where
                                                   ///< it was asked for and as far as documents reach

  /// Heads whose sink is above `threshold` [gu2024].
  int64_t sinks(double threshold = 0.3) const;
};

struct ModelDiagnostics {
  std::vector<LayerDiagnostics> layers;
  std::vector<GateDiagnostics> gates;  ///< in the order of the configuration, over layers

  /// Mean over layers.
  double first_token_attention() const;
  /// What it would be if attention were uniform.
  double uniform_first_token_attention() const { return layers.front().uniform_first_token_attention; }
  /// Share of the heads of all layers that are sinks; nothing where no document is long enough.
  std::optional<double> sink_rate() const;
  /// Mean over layers of the largest output.
  double mean_largest_activation() const;
  /// The first layer whose feed-forward layer adds something above 100.
  std::optional<int64_t> first_massive_mlp() const;
};

/// Adds what a run logs of the cheap diagnostics.
void add_diagnostics(const ModelDiagnostics& diagnostics, StepMetrics& metrics);

/// Gathers diagnostics of the batches that a model computes while it looks on.
class DiagnosticsProbe : public Probe {
 public:
  enum class Detail {
    kCheap,  ///< of every fourth token attention to the first one and gate scores; largest logit and output
    kFull,
  };

  /// Queries at the first `skip` positions of a document do not count in first_token_attention. Configuration and mesh
  /// must outlive the probe.
  DiagnosticsProbe(const ModelConfig& config, const Mesh& mesh, Detail detail, int64_t skip = 0);

  /// Gives the mean score of G1 in each layer, as an earlier pass over the same text found it.
  void set_mean_gates(const ModelDiagnostics& earlier);

  /// Takes attention maps too, where the detail is full. The layers exist.
  void map_attention(const AttentionMap& wanted);

  bool sees_blocks() const override { return true; }
  bool sees_logits() const override { return true; }
  void see_block(StepContext& ctx, int64_t layer, const TokenBatch& batch, const BlockSaved& block, Tensor y) override;

  /// What all ranks have seen since the last call, or from the beginning. Every rank of the mesh calls it.
  ModelDiagnostics finish();

 private:
  void see_gates(Stream& s, int64_t layer, const BlockSaved& block);
  void see_magnitudes(Stream& s, int64_t layer, const AttentionSaved& attention);
  void see_residual(StepContext& ctx, int64_t layer, const BlockSaved& block, Tensor y);
  void see_map(Stream& s, int64_t layer, const AttentionInput& in, Tensor lse);
  void see_routing(Stream& s, int64_t layer, const Routing& routing);
  /// Raises a maximum of a layer to the largest |x|.
  void raise(Stream& s, int64_t layer, int64_t which, Tensor x);
  Tensor sums(int64_t layer, int64_t at, Shape shape);
  /// How many ranks see each score of a gate.
  double copies(const GateSpec& gate) const;
  /// Of a gate's sums and extremes, over layers or in one.
  GateDiagnostics gate(const GateSpec& spec, const double* sums, const double* extremes) const;
  GateDiagnostics gate_of_model(int index) const;
  LayerDiagnostics layer(int64_t index) const;

  const ModelConfig& config_;
  const Mesh& mesh_;
  const Detail detail_;
  const int64_t every_;  ///< of so many tokens one is looked at
  const int64_t skip_;
  const int64_t gates_at_, magnitudes_at_, routing_at_, sums_a_layer_, maxima_a_layer_;
  std::vector<double> mean_gates_;  ///< [layers], or empty
  std::vector<double> sums_;        ///< [layers, sums_a_layer]
  std::vector<double> maxima_;      ///< [layers, maxima_a_layer]
  int64_t map_positions_ = 0;
  std::map<int64_t, std::vector<double>>
      maps_;  ///< by layer: [map_positions + 1, map_positions], sums and their counts
};

}  // namespace sluice
