#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "kernels/core/philox.h"
#include "kernels/gemm.h"
#include "tests/reference/activations.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/gate.h"
#include "tests/runtime/training_fixture.h"

// The gradient of the whole loss, of every option that changes what the model computes, against central differences.
namespace sluice {
namespace {

struct Options {
  bool moe = true;
  std::string granularity;  ///< of the gate; empty: none
  std::string combine, activation;
  bool qk_norm = true;
  bool tied = false;
  bool mup = false;
  std::string position = "G1";
  bool before_norm = true;  ///< G3, G4
};

std::ostream& operator<<(std::ostream& out, const Options& o) {
  out << (o.moe ? "moe" : "dense") << "_" << (o.granularity.empty() ? "ungated" : o.granularity);
  if (!o.granularity.empty()) out << "_" << o.position << "_" << o.combine << "_" << o.activation;
  if (!o.before_norm) out << "_after_norm";
  return out << (o.qk_norm ? "" : "_no_qk_norm") << (o.tied ? "_tied" : "") << (o.mup ? "_mup" : "");
}

std::vector<Options> all_options() {
  std::vector<Options> gates(1);
  for (const char* granularity : {"ELEMENTWISE", "HEADWISE"}) {
    for (const char* combine : {"MULTIPLY", "ADD"}) {
      for (const char* activation : {"SIGMOID", "SILU", "NS_SIGMOID", "IDENTITY"}) {
        gates.push_back({true, granularity, combine, activation});
      }
    }
  }
  std::vector<Options> all;
  for (Options options : gates) {
    // Of the rest, every combination of any two.
    for (unsigned rest = 0; rest < 8; ++rest) {
      options.moe = rest & 1, options.qk_norm = rest & 2, options.tied = rest & 4;
      options.mup = options.moe ^ options.qk_norm ^ options.tied;
      all.push_back(options);
    }
  }
  for (Options options : gates) {
    if (options.granularity.empty()) continue;
    options.moe = false;  // which would only add tokens that stand between two experts
    for (const char* position : {"G2", "G3", "G4"}) {
      for (const auto& [norm, before] : {std::pair{true, true}, {true, false}, {false, true}}) {
        options.position = position, options.qk_norm = norm, options.before_norm = before;
        const bool normed = options.position != "G2" && norm;
        const bool cancelled = before && options.granularity == "HEADWISE" && options.combine == "MULTIPLY";
        // Otherwise a norm divides the gate out again, or there is none that the gate could stand behind.
        if (normed ? !cancelled : before) all.push_back(options);
      }
    }
  }
  return all;
}

TrainConfig config_of(const Options& o) {
  std::vector<std::string> overrides = {"model.gates="};
  if (!o.granularity.empty()) {
    overrides.push_back(concat("model.gates[0]={position: ", o.position, " granularity: ", o.granularity,
                               " combine: ", o.combine, " activation: ", o.activation,
                               o.before_norm ? "}" : " before_qk_norm: false}"));
  }
  if (!o.moe) overrides.insert(overrides.end(), {"model.moe=", "model.intermediate_size=10"});
  if (!o.qk_norm) overrides.push_back("model.qk_norm=false");
  if (o.tied) overrides.push_back("model.tie_word_embeddings=true");
  if (o.mup) overrides.push_back("model.mup.base_hidden_size=4");
  return tiny_config(overrides);
}

/// One micro-step of a model in f64, with gradients of every parameter.
class WholeModel {
 public:
  explicit WholeModel(const TrainConfig& config)
      : config_(config),
        groups_(make_thread_groups(1)),
        mesh_(mesh_shape(config), *groups_.front()),
        stream_{Device::kCpu, best_isa(), &pool_},
        model_(config.model(), true, DType::kF64),
        transformer_(config.model(), config.training(), DType::kF64, config.training().sequence_length(), model_.state),
        gradient_(model_.state.alloc("gradient", DType::kF64, {model_.layout.count()})),
        gradients_(bind_parameters(config.model(), model_.records, gradient_)) {
    const int64_t layers = config.model().num_layers();
    sums_.lm_loss = model_.state.alloc("lm_loss", DType::kF64, {1});
    sums_.router = model_.state.alloc("router", DType::kF64, {layers, 3});
    const int64_t experts = config.model().has_moe() ? config.model().moe().num_experts() : 0;
    sums_.expert_counts = model_.state.alloc("counts", DType::kI64, {layers, experts});
    initialise_parameters(model_.records, 1, stream_, model_.weights);
    fill_samples(config, 0, config.training().micro_batch_size(), batch_);
    scale_ = {batch_.target_count, static_cast<int64_t>(batch_.tokens.size()), 1};
  }

  /// Fills gradient() and expert_counts().
  double loss() {
    for (Tensor t : {sums_.lm_loss, sums_.router, sums_.expert_counts, gradient_}) fill_zero(stream_, t);
    StepContext ctx = memory_.context(stream_, mesh_);
    transformer_.train_micro_step(ctx, model_.weight_tensors, token_batch(batch_), scale_, sums_, saved_, gradients_);
    return step_losses(config_.model(), scale_, sums_).loss;
  }
  /// Calls see(activations) while they are there.
  template <class See>
  void after_forward(const See& see) {
    fill_zero(stream_, sums_.expert_counts);
    StepContext ctx = memory_.context(stream_, mesh_);
    const ArenaScope kept(ctx.kept), saved(ctx.saved);
    transformer_.forward(ctx, model_.weight_tensors, token_batch(batch_), scale_, sums_, saved_);
    see(saved_);
  }
  /// Logits of the first position.
  std::vector<double> first_logits() {
    std::vector<double> logits(static_cast<size_t>(config_.model().vocab_size()));
    after_forward([&](const TransformerSaved& saved) {
      linear_forward(stream_, saved.normed.rows(0, 1), model_.weight_tensors.head(),
                     {logits.data(), DType::kF64, Device::kCpu, {1, config_.model().vocab_size()}});
    });
    return logits;
  }
  std::vector<int64_t> expert_counts() const {
    const int64_t* counts = sums_.expert_counts.as<int64_t>();
    return {counts, counts + sums_.expert_counts.count()};
  }
  const std::vector<ParameterRecord>& records() const { return model_.records; }
  double* weights() { return model_.weights.as<double>(); }
  const double* gradient() const { return gradient_.as<double>(); }

 private:
  const TrainConfig config_;
  std::vector<std::unique_ptr<ProcessGroup>> groups_;
  const Mesh mesh_;
  ThreadPool pool_{1};
  Stream stream_;
  ModelState model_;
  const Transformer transformer_;
  Tensor gradient_;
  ModelTensors gradients_;
  ActivationMemory memory_;
  TransformerSaved saved_;
  StepSums sums_;
  Batch batch_;
  LossScale scale_;
};

/// Moves a parameter along `direction` and gives the loss there.
double loss_at(WholeModel& model, const ParameterRecord& r, const std::vector<double>& direction, double h) {
  double* w = model.weights() + r.flat_begin;
  const std::vector<double> before(w, w + r.count);
  for (size_t i = 0; i < before.size(); ++i) w[i] += h * direction[i];
  const double loss = model.loss();
  std::copy(before.begin(), before.end(), w);
  return loss;
}

class WholeGradient : public testing::TestWithParam<Options> {};

TEST_P(WholeGradient, OfEveryParameterIsTheSlopeOfTheLoss) {
  WholeModel model(config_of(GetParam()));
  model.loss();
  const std::vector<double> gradient(
      model.gradient(), model.gradient() + model.records().back().flat_begin + model.records().back().count);
  const std::vector<int64_t> counts = model.expert_counts();
  for (const ParameterRecord& r : model.records()) {
    const Philox random(5, r.name);
    std::vector<double> direction;
    double predicted = 0, norm = 0;
    for (int64_t i = 0; i < r.count; ++i) {
      const double g = gradient[static_cast<size_t>(r.flat_begin + i)];
      direction.push_back(random.normals(static_cast<uint64_t>(i))[0]);
      norm += g * g;
    }
    ASSERT_GT(norm, 0) << r.name << " has no gradient";
    for (int64_t i = 0; i < r.count; ++i) {
      const double g = gradient[static_cast<size_t>(r.flat_begin + i)];
      double& d = direction[static_cast<size_t>(i)];
      // Half along the gradient, so that the slope is far from zero.
      d = d / std::sqrt(static_cast<double>(r.count)) + g / std::sqrt(norm);
      predicted += d * g;
    }
    // Fourth order in h: from two widths, what remains of the third derivative cancels.
    const auto slope = [&](double h) {
      const double above = loss_at(model, r, direction, h);
      EXPECT_EQ(model.expert_counts(), counts) << r.name << ": a token changes experts";
      const double below = loss_at(model, r, direction, -h);
      EXPECT_EQ(model.expert_counts(), counts) << r.name << ": a token changes experts";
      return (above - below) / (2 * h);
    };
    constexpr double kWidth = 1e-5;
    const double measured = (4 * slope(kWidth) - slope(2 * kWidth)) / 3;
    EXPECT_NEAR(measured / predicted, 1, 1e-7) << r.name;
  }
}

INSTANTIATE_TEST_SUITE_P(, WholeGradient, testing::ValuesIn(all_options()),
                         [](const testing::TestParamInfo<Options>& info) { return concat(info.param); });

std::vector<double> values(Tensor t) { return {t.as<double>(), t.as<double>() + t.count()}; }

// A gradient would not show that an option is taken for another.
TEST(WholeModel, GatesAreThoseOfTheConfiguration) {
  const std::map<std::string, double (*)(double)> activations = {{"SIGMOID", reference::sigmoid<double>},
                                                                 {"SILU", reference::silu<double>},
                                                                 {"NS_SIGMOID", reference::ns_sigmoid<double>},
                                                                 {"IDENTITY", reference::identity<double>}};
  for (const Options& options : all_options()) {
    const TrainConfig config = config_of(options);
    WholeModel(config).after_forward([&](const TransformerSaved& saved) {
      for (const BlockSaved& block : saved.blocks) {
        const AttentionSaved& a = block.attention;
        if (options.granularity.empty()) {
          EXPECT_EQ(a.gated.data, a.out.data) << options;
          continue;
        }
        // Behind the norm comes RoPE, which leaves the first token as it is.
        const std::map<std::string, std::pair<GateSaved, Tensor>> gates = {
            {"G1", {a.out_gate, a.gated}},
            {"G2", {a.v_gate, a.v_gated}},
            {"G3", {a.k.gate, options.before_norm ? a.k.to_norm : a.k.rotated.rows(0, 1)}},
            {"G4", {a.q.gate, options.before_norm ? a.q.to_norm : a.q.rotated.rows(0, 1)}}};
        for (const auto& [position, seen] : gates) {
          EXPECT_EQ(bool(seen.first.logits), position == options.position) << options << ", " << position;
        }
        const auto& [gate, gated] = gates.at(options.position);
        const int64_t channels = options.granularity == "HEADWISE" ? config.model().head_dim() : 1;
        std::vector<double> want = reference::gate(values(gate.y), values(gate.logits), channels,
                                                   options.combine == "MULTIPLY", activations.at(options.activation));
        want.resize(static_cast<size_t>(gated.count()));
        EXPECT_LE(reference::relative_l2(values(gated), want), 1e-14) << options;
      }
    });
  }
}

TEST(WholeModel, QueriesAndKeysAreNormedWhenConfigured) {
  for (const bool normed : {true, false}) {
    Options options;
    options.qk_norm = normed;
    const TrainConfig config = config_of(options);
    WholeModel(config).after_forward([&](const TransformerSaved& saved) {
      // Position 0 is not rotated, and the weights of the norm begin as ones.
      const AttentionSaved& a = saved.blocks[0].attention;
      for (const auto& [raw, rotated] : {std::pair(a.q.raw, a.q.rotated), {a.k.raw, a.k.rotated}}) {
        const int64_t channels = config.model().head_dim();
        const double* x = raw.as<double>();
        const double squares = std::inner_product(x, x + channels, x, 0.0);
        const double mean = squares / static_cast<double>(channels) + config.model().rms_norm_eps();
        for (int64_t i = 0; i < channels; ++i) {
          EXPECT_NEAR(rotated.as<double>()[i], normed ? x[i] / std::sqrt(mean) : x[i], 1e-14);
        }
      }
    });
  }
}

TEST(WholeModel, TiedEmbeddingsAreTheOutputLayer) {
  Options options;
  const auto has_head = [&](bool tied) {
    options.tied = tied;
    const WholeModel model(config_of(options));
    return std::any_of(model.records().begin(), model.records().end(),
                       [](const ParameterRecord& r) { return r.name == "lm_head.weight"; });
  };
  EXPECT_FALSE(has_head(true));
  EXPECT_TRUE(has_head(false));
}

TEST(Mup, DividesLogitsAndScalesHiddenMatricesByTheWidth) {
  Options options;
  WholeModel base(config_of(options));
  options.mup = true;
  WholeModel wide(config_of(options));
  const double ratio = 16.0 / 4;
  for (size_t i = 0; i < base.records().size(); ++i) {
    const ParameterRecord& r = wide.records()[i];
    const bool hidden = r.global_shape.size() > 1 && r.name.rfind("model.layers.", 0) == 0;
    EXPECT_EQ(r.lr_scale, hidden ? 1 / ratio : 1) << r.name;
    const double scale = hidden ? 1 / std::sqrt(ratio) : 1;
    for (int64_t e = r.flat_begin; e < r.flat_begin + r.count; ++e) {
      EXPECT_NEAR(wide.weights()[e], scale * base.weights()[e], 1e-7) << r.name;
    }
    std::copy(wide.weights() + r.flat_begin, wide.weights() + r.flat_begin + r.count, base.weights() + r.flat_begin);
  }
  const std::vector<double> logits = base.first_logits(), divided = wide.first_logits();
  for (size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(divided[i], logits[i] / ratio, 1e-12);
}

}  // namespace
}  // namespace sluice
