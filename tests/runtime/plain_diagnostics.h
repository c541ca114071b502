#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "kernels/diagnostics.h"
#include "runtime/diagnostics.h"
#include "tests/models/whole_model.h"

/// What a DiagnosticsProbe reports, by its definition, from tensors that are stored in full.
namespace sluice::plain {

inline constexpr double kClose = 1e-6;

inline std::vector<double> values(Tensor t) { return {t.as<double>(), t.as<double>() + t.count()}; }

inline double largest_magnitude(const std::vector<double>& x) {
  double most = 0;
  for (double value : x) most = std::max(most, std::abs(value));
  return most;
}

inline double share_below(const std::vector<double>& x, double limit) {
  const auto below = std::count_if(x.begin(), x.end(), [&](double value) { return std::abs(value) < limit; });
  return static_cast<double>(below) / static_cast<double>(x.size());
}

inline double mean(const std::vector<double>& x) {
  double sum = 0;
  for (double value : x) sum += value;
  return sum / static_cast<double>(x.size());
}

inline std::vector<double> magnitudes(std::vector<double> x) {
  for (double& value : x) value = std::abs(value);
  return x;
}

/// Attention probabilities of a layer by their definition, stored: probability(query, head, key of its document).
class AttentionMatrix {
 public:
  AttentionMatrix(const ModelConfig& config, const AttentionSaved& saved, const Batch& batch)
      : heads_(config.num_attention_heads()), rows_(batch.tokens.size() * static_cast<size_t>(heads_)) {
    const int64_t width = config.head_dim(), kv_heads = config.num_key_value_heads();
    const std::vector<double> q = values(saved.q.out), k = values(saved.k.out);
    for (size_t query = 0; query < batch.tokens.size(); ++query) {
      const int64_t first = static_cast<int64_t>(query) - batch.positions[query];
      for (int64_t head = 0; head < heads_; ++head) {
        std::vector<double>& row = rows_[query * static_cast<size_t>(heads_) + static_cast<size_t>(head)];
        double sum = 0;
        for (int64_t key = first; key <= static_cast<int64_t>(query); ++key) {
          double logit = 0;
          for (int64_t i = 0; i < width; ++i) {
            logit += q[static_cast<size_t>((static_cast<int64_t>(query) * heads_ + head) * width + i)] *
                     k[static_cast<size_t>((key * kv_heads + head / (heads_ / kv_heads)) * width + i)];
          }
          logit /= std::sqrt(static_cast<double>(width));
          largest = std::max(largest, logit);
          row.push_back(std::exp(logit));
          sum += row.back();
        }
        for (double& probability : row) probability /= sum;
      }
    }
  }
  const std::vector<double>& row(size_t query, int64_t head) const {
    return rows_[query * static_cast<size_t>(heads_) + static_cast<size_t>(head)];
  }

  double largest = -HUGE_VAL;  ///< logit

 private:
  int64_t heads_;
  std::vector<std::vector<double>> rows_;
};

/// The map is the mean of the matrix over heads and documents.
inline void expect_plain_map(const TrainConfig& config, const Batch& batch, const AttentionMatrix& attention,
                             const LayerDiagnostics& layer) {
  const size_t longest = static_cast<size_t>(*std::max_element(batch.positions.begin(), batch.positions.end())) + 1;
  const size_t rows = std::min(longest, static_cast<size_t>(config.evaluation().attention_map().positions()));
  ASSERT_EQ(layer.attention_map.size(), rows);
  for (size_t i = 0; i < rows; ++i) {
    std::vector<double> sums(i + 1);
    double queries = 0;
    for (size_t query = 0; query < batch.tokens.size(); ++query) {
      if (batch.positions[query] != static_cast<int32_t>(i)) continue;
      for (int64_t head = 0; head < config.model().num_attention_heads(); ++head, ++queries) {
        for (size_t key = 0; key <= i; ++key) sums[key] += attention.row(query, head)[key];
      }
    }
    for (double& sum : sums) sum /= queries;
    EXPECT_THAT(layer.attention_map[i], testing::Pointwise(testing::DoubleNear(kClose), sums)) << "row " << i;
  }
}

inline int64_t document_length(const Batch& batch, size_t token) {
  const auto end =
      std::upper_bound(batch.document_offsets.begin(), batch.document_offsets.end(), static_cast<int32_t>(token));
  return *end - *(end - 1);
}

/// Compares what the probe makes of a layer with what follows from all that was computed.
inline void expect_plain(const TrainConfig& config, const Batch& batch, const BlockSaved& block,
                         const std::vector<double>& y, const LayerDiagnostics& layer, int64_t skip) {
  const AttentionMatrix attention(config.model(), block.attention, batch);
  expect_plain_map(config, batch, attention, layer);
  std::vector<double> first, uniform;
  bool has_sinks = false;
  for (int64_t head = 0; head < config.model().num_attention_heads(); ++head) {
    std::vector<double> sink;
    for (size_t query = 0; query < batch.tokens.size(); ++query) {
      const double probability = attention.row(query, head).front();
      const int32_t position = batch.positions[query];
      if (position >= skip) first.push_back(probability), uniform.push_back(1.0 / (position + 1));
      if (position >= 1 && position <= 64 && document_length(batch, query) > 64) sink.push_back(probability);
    }
    has_sinks = !sink.empty();
    if (has_sinks) {
      EXPECT_NEAR(layer.head_sinks[static_cast<size_t>(head)], mean(sink), kClose);
    }
  }
  EXPECT_EQ(layer.head_sinks.size(), has_sinks ? 4u : 0u);
  EXPECT_EQ(has_sinks, config.training().sequence_length() > 100) << "the samples test nothing";
  EXPECT_NEAR(layer.first_token_attention, mean(first), kClose);
  EXPECT_NEAR(layer.uniform_first_token_attention, mean(uniform), kClose);
  EXPECT_NEAR(layer.attention_logit_max, attention.largest, kClose);

  const std::vector<double> out = values(block.attention.out), gated = values(block.attention.gated);
  EXPECT_NEAR(layer.head_output.mean, mean(magnitudes(out)), kClose);
  EXPECT_NEAR(layer.gated_output.mean, mean(magnitudes(gated)), kClose);
  EXPECT_EQ(layer.head_output.below_hundredth, share_below(out, 1e-2));
  EXPECT_EQ(layer.gated_output.below_hundredth, share_below(gated, 1e-2));
  EXPECT_EQ(layer.gated_output.below_thousandth, share_below(gated, 1e-3));

  const std::vector<double> input = values(block.input), middle = values(block.middle);
  std::vector<double> by_attention = middle, by_mlp = y;
  for (size_t i = 0; i < y.size(); ++i) by_attention[i] -= input[i], by_mlp[i] -= middle[i];
  EXPECT_NEAR(layer.attention_output_max, largest_magnitude(by_attention), kClose);
  EXPECT_NEAR(layer.middle_max, largest_magnitude(middle), kClose);
  EXPECT_NEAR(layer.mlp_output_max, largest_magnitude(by_mlp), kClose);
  EXPECT_NEAR(layer.residual_max, largest_magnitude(y), kClose);
}

/// x [rows, in] w^T with w [out, in].
inline std::vector<double> product(const std::vector<double>& x, const std::vector<double>& w, size_t in) {
  std::vector<double> y;
  for (size_t row = 0; row < x.size(); row += in) {
    for (size_t out = 0; out < w.size(); out += in) {
      y.push_back(std::inner_product(x.begin() + static_cast<std::ptrdiff_t>(row),
                                     x.begin() + static_cast<std::ptrdiff_t>(row + in),
                                     w.begin() + static_cast<std::ptrdiff_t>(out), 0.0));
    }
  }
  return y;
}

inline std::vector<double> weights_named(WholeModel& model, const std::string& name) {
  for (const ParameterRecord& r : model.records()) {
    if (r.name == name) return model.weights_of(r);
  }
  ADD_FAILURE() << "no " << name;
  return {};
}

inline double activated(GateSpec::Activation activation, double z) {
  const double sigmoid = reference::sigmoid(z);
  switch (activation) {
    case GateSpec::SIGMOID:
      return sigmoid;
    case GateSpec::NS_SIGMOID:
      return 0.5 + 0.5 * sigmoid;
    case GateSpec::TWICE_SIGMOID:
      return 2 * sigmoid;
    case GateSpec::SILU:
      return z * sigmoid;
    case GateSpec::IDENTITY:
      return z;
  }
  return z;
}

/// The scores of a gate by its definition, from the input of the attention layer.
inline std::vector<double> plain_scores(WholeModel& model, const ModelConfig& config, const GateSpec& spec,
                                        size_t layer, const BlockSaved& block) {
  const std::string name = concat("model.layers.", layer, ".self_attn.gates.g", static_cast<int>(spec.position()));
  const size_t hidden = static_cast<size_t>(config.hidden_size());
  std::vector<double> scores = product(values(block.attention_in), weights_named(model, name + ".weight"), hidden);
  for (double& score : scores) score = activated(spec.activation(), score);
  if (spec.sharing() != GateSpec::HEAD_SHARED) return scores;
  const size_t heads = static_cast<size_t>(config.num_attention_heads()),
               width = static_cast<size_t>(config.head_dim());
  std::vector<double> shared(scores.size() / heads);
  for (size_t i = 0; i < scores.size(); ++i) {
    shared[i / (heads * width) * width + i % width] += scores[i] / static_cast<double>(heads);
  }
  return shared;
}

/// Entropy and load by their definitions, from the input of the router.
inline void expect_plain_routing(WholeModel& model, const ModelConfig& config, size_t index, const BlockSaved& block,
                                 const LayerDiagnostics& layer) {
  const size_t experts = static_cast<size_t>(config.moe().num_experts());
  std::vector<double> logits =
      product(values(block.mlp_in), weights_named(model, concat("model.layers.", index, ".mlp.router.weight")),
              static_cast<size_t>(config.hidden_size()));
  std::vector<double> counts(experts), entropies;
  for (size_t token = 0; token < logits.size(); token += experts) {
    double sum = 0, entropy = 0;
    for (size_t e = 0; e < experts; ++e) sum += std::exp(logits[token + e]);
    std::vector<std::pair<double, size_t>> order;
    for (size_t e = 0; e < experts; ++e) {
      const double probability = std::exp(logits[token + e]) / sum;
      entropy -= probability * std::log(probability);
      order.emplace_back(-probability, e);
    }
    entropies.push_back(entropy);
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < static_cast<size_t>(config.moe().top_k()); ++i) counts[order[i].second] += 1;
  }
  EXPECT_NEAR(layer.router_entropy.value(), mean(entropies), kClose);
  EXPECT_NEAR(layer.expert_load_max_over_mean.value(), *std::max_element(counts.begin(), counts.end()) / mean(counts),
              kClose);
}

inline void expect_plain_scores(const GateSpec& spec, const std::vector<double>& scores, const GateDiagnostics& gate) {
  EXPECT_EQ(gate.count, static_cast<double>(scores.size()));
  EXPECT_EQ(gate.position, spec.position());
  EXPECT_NEAR(gate.mean, mean(scores), kClose);
  double squares = 0;
  for (double score : scores) squares += (score - mean(scores)) * (score - mean(scores));
  EXPECT_NEAR(gate.deviation, std::sqrt(squares / static_cast<double>(scores.size())), kClose);
  EXPECT_NEAR(gate.smallest, *std::min_element(scores.begin(), scores.end()), kClose);
  EXPECT_NEAR(gate.largest, *std::max_element(scores.begin(), scores.end()), kClose);
  const auto below = [&](double limit) {
    const auto count = std::count_if(scores.begin(), scores.end(), [&](double score) { return score < limit; });
    return static_cast<double>(count) / static_cast<double>(scores.size());
  };
  EXPECT_EQ(gate.below_tenth, below(0.1));
  EXPECT_EQ(gate.below_half, below(0.5));
  ASSERT_EQ(gate.density.size(), static_cast<size_t>(kScoreBins));
  double before = 0;
  for (int64_t bin = 0; bin < kScoreBins; ++bin) {
    const double width = (gate.highest - gate.lowest) / kScoreBins, end = gate.lowest + width * (bin + 1.0);
    const auto below =
        std::count_if(scores.begin(), scores.end(), [&](double score) { return score < end || bin + 1 == kScoreBins; });
    const double until = static_cast<double>(below) / static_cast<double>(scores.size());
    EXPECT_NEAR(gate.density[static_cast<size_t>(bin)], (until - before) / width, kClose) << bin;
    before = until;
  }
}

}  // namespace sluice::plain
