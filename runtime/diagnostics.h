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
  std::vector<double> density;             ///< in kScoreBins equal bins from 0 to 1; 1 where scores spread evenly
};

/// Magnitudes of the elements of a tensor.
struct MagnitudeDiagnostics {
  double mean = 0;
  double below_hundredth = 0, below_thousandth = 0;  ///< shares of the elements
};

/// What is measured in a layer (paper section 7).
struct LayerDiagnostics {
  double first_token_attention = 0;  ///< mean over heads and queries of the attention to a document's first token
  std::vector<double> head_sinks;    ///< [query heads], the same mean of the queries at positions 1..64
  double attention_logit_max = 0;
  std::vector<GateDiagnostics> gates;  ///< in the order of the configuration
  // Largest magnitudes of what attention adds, of the residual behind it, of what the feed-forward layer adds, and of
  // the layer's output.
  double attention_output_max = 0, middle_max = 0, mlp_output_max = 0, residual_max = 0;
  double router_entropy = 0;             ///< nats, mean over tokens; 0 without experts
  double expert_load_max_over_mean = 0;  ///< tokens of the busiest expert over the mean; 0 without experts
  bool massive = false;                  ///< an output above 100 and a thousand medians of its batch [sun2024]
  MagnitudeDiagnostics head_output, gated_output;  ///< before and behind everything up to o_proj
  MagnitudeDiagnostics output_by_mean_gate;        ///< the first times the mean score of G1; where that is given
  std::vector<std::vector<double>> attention_map;  ///< mean over heads and documents, row i over positions 0..i; where
                                                   ///< it was asked for and as far as documents reach

  /// Heads whose sink is above `threshold` [gu2024].
  int64_t sinks(double threshold = 0.3) const;
};

struct ModelDiagnostics {
  std::vector<LayerDiagnostics> layers;

  /// Mean over layers.
  double first_token_attention() const;
  /// Share of the heads of all layers that are sinks.
  double sink_rate() const;
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
    kCheap,  ///< attention to the first token, largest logit and output, gate scores
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
  LayerDiagnostics layer(int64_t index) const;

  const ModelConfig& config_;
  const Mesh& mesh_;
  const Detail detail_;
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
