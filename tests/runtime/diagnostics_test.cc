#include "runtime/diagnostics.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <gmock/gmock.h>

#include "kernels/diagnostics.h"
#include "tests/models/whole_model.h"
#include "tests/runtime/plain_diagnostics.h"

namespace sluice {
namespace {

using namespace plain;

const std::vector<std::string> kTwoGates = {
    "model.gates[0]={position: G1}", "model.gates[1]={position: G2 granularity: HEADWISE activation: NS_SIGMOID}"};

TEST(Diagnostics, AreThoseOfAPlainImplementation) {
  for (int64_t skip : {0, 2}) {
    std::vector<std::string> overrides = kTwoGates;
    // Only long documents have sinks.
    if (skip) overrides.push_back("training.sequence_length=150");
    overrides.insert(overrides.end(), {"evaluation.attention_map.layers[0]=0", "evaluation.attention_map.layers[1]=1",
                                       skip ? "evaluation.attention_map.positions=4" : "evaluation.skip_first=0"});
    const TrainConfig config = tiny_config(overrides);
    WholeModel model(config);
    DiagnosticsProbe probe(config.model(), model.mesh(), DiagnosticsProbe::Detail::kFull, skip);
    probe.map_attention(config.evaluation().attention_map());
    model.show(probe);
    probe.set_mean_gates(probe.finish());
    model.show(probe);
    const ModelDiagnostics diagnostics = probe.finish();
    model.after_forward([&](const TransformerSaved& saved) {
      for (size_t i = 0; i < saved.blocks.size(); ++i) {
        const std::vector<double> y = values(i + 1 < saved.blocks.size() ? saved.blocks[i + 1].input : saved.last);
        const LayerDiagnostics& layer = diagnostics.layers[i];
        const AttentionSaved& attention = saved.blocks[i].attention;
        EXPECT_FALSE(attention.largest) << "of an earlier pass that a probe saw";
        expect_plain(config, model.batch(), saved.blocks[i], y, layer, skip);
        for (int gate = 0; gate < 2; ++gate) {
          const GateSpec& spec = config.model().gates(gate);
          expect_plain_scores(spec, plain_scores(model, config.model(), spec, i, saved.blocks[i]),
                              layer.gates[static_cast<size_t>(gate)]);
        }
        std::vector<double> by_mean = values(attention.out);
        for (double& x : by_mean) x *= layer.gates[0].mean;
        const MagnitudeDiagnostics& by_mean_gate = layer.output_by_mean_gate.value();
        EXPECT_NEAR(by_mean_gate.mean, mean(magnitudes(by_mean)), kClose);
        EXPECT_EQ(by_mean_gate.below_hundredth, share_below(by_mean, 1e-2));
        EXPECT_EQ(by_mean_gate.below_thousandth, share_below(by_mean, 1e-3));
        expect_plain_routing(model, config.model(), i, saved.blocks[i], layer);
      }
    });
  }
}

TEST(Diagnostics, ScoresAreThoseOfEveryGate) {
  for (const char* gate :
       {"position: G1 activation: TWICE_SIGMOID", "position: G1 sharing: HEAD_SHARED", "position: G2 activation: SILU",
        "position: G3 activation: NS_SIGMOID", "position: G4 combine: ADD activation: IDENTITY",
        "position: G4 granularity: HEADWISE before_qk_norm: false", "position: G5"}) {
    const TrainConfig config = tiny_config({"model.qk_norm=true", concat("model.gates[0]={", gate, "}")});
    WholeModel model(config);
    DiagnosticsProbe probe(config.model(), model.mesh(), DiagnosticsProbe::Detail::kFull);
    model.show(probe);
    const ModelDiagnostics diagnostics = probe.finish();
    std::vector<double> of_all_layers;
    model.after_forward([&](const TransformerSaved& saved) {
      for (size_t i = 0; i < saved.blocks.size(); ++i) {
        const std::vector<double> scores =
            plain_scores(model, config.model(), config.model().gates(0), i, saved.blocks[i]);
        expect_plain_scores(config.model().gates(0), scores, diagnostics.layers[i].gates[0]);
        of_all_layers.insert(of_all_layers.end(), scores.begin(), scores.end());
      }
    });
    ASSERT_EQ(diagnostics.gates.size(), 1u);
    expect_plain_scores(config.model().gates(0), of_all_layers, diagnostics.gates[0]);
  }
}

TEST(Diagnostics, ScoresThatSeveralRanksSeeAreCountedOnce) {
  const auto counts = [](const char* gate, const std::vector<std::string>& layout, int ranks) {
    std::vector<std::string> overrides = {concat("model.gates[0]={", gate, "}"), "model.vocab_size=36"};
    overrides.insert(overrides.end(), layout.begin(), layout.end());
    const TrainConfig config = tiny_config(overrides, ranks);
    double count = 0;
    run_ranks(ranks, [&](ProcessGroup& world) {
      TinyRun run(config, world);
      DiagnosticsProbe probe(config.model(), run.mesh(), DiagnosticsProbe::Detail::kCheap);
      run.step().set_probe(&probe);
      run.run(1);
      const ModelDiagnostics diagnostics = probe.finish();
      if (world.rank() == 0) count = diagnostics.layers[1].gates[0].count;
    });
    return count;
  };
  for (const char* gate : {"position: G1 sharing: HEAD_SHARED", "position: G2", "position: G3", "position: G4"}) {
    EXPECT_EQ(counts(gate, {"mesh.tp=4"}, 4), counts(gate, {}, 1)) << gate;
  }
}

TEST(Diagnostics, AreTheSameOnEveryLayout) {
  const auto diagnose = [](const std::vector<std::string>& layout, int ranks) {
    std::vector<std::string> overrides = kTwoGates;
    overrides.insert(overrides.end(), {"training.micro_batch_size=2", "model.moe.num_experts=6"});
    overrides.push_back("model.vocab_size=36");
    overrides.insert(overrides.end(), layout.begin(), layout.end());
    const TrainConfig config = tiny_config(overrides, ranks);
    ModelDiagnostics diagnostics;
    run_ranks(ranks, [&](ProcessGroup& world) {
      TinyRun run(config, world);
      DiagnosticsProbe probe(config.model(), run.mesh(), DiagnosticsProbe::Detail::kFull);
      AttentionMap wanted;
      wanted.add_layers(1);
      wanted.set_positions(5);
      probe.map_attention(wanted);
      run.step().set_probe(&probe);
      run.run(1);
      probe.set_mean_gates(probe.finish());
      run.run(2);
      const ModelDiagnostics of_rank = probe.finish();
      if (world.rank() == 0) diagnostics = of_rank;
    });
    return diagnostics;
  };
  const ModelDiagnostics one = diagnose({"training.micro_batch_size=4"}, 1),
                         four = diagnose({"mesh.dp=2", "mesh.tp=2", "mesh.ep=2"}, 4);
  EXPECT_NEAR(four.first_token_attention(), one.first_token_attention(), 1e-12);
  EXPECT_EQ(four.sink_rate(), one.sink_rate());
  EXPECT_NEAR(four.mean_largest_activation(), one.mean_largest_activation(), 1e-12);
  for (size_t i = 0; i < one.layers.size(); ++i) {
    const LayerDiagnostics &a = four.layers[i], &b = one.layers[i];
    EXPECT_NEAR(a.attention_logit_max, b.attention_logit_max, 1e-12);
    EXPECT_NEAR(a.gates[0].mean, b.gates[0].mean, 1e-12);
    EXPECT_EQ(a.gates[0].count, b.gates[0].count);
    EXPECT_EQ(a.gates[1].count, b.gates[1].count);
    EXPECT_NEAR(a.output_by_mean_gate.value().mean, b.output_by_mean_gate.value().mean, 1e-12);
    EXPECT_EQ(a.massive, b.massive);
    EXPECT_NEAR(a.gates[1].deviation, b.gates[1].deviation, 1e-12);
    EXPECT_NEAR(a.gated_output.mean, b.gated_output.mean, 1e-12);
    EXPECT_NEAR(a.attention_output_max, b.attention_output_max, 1e-12);
    EXPECT_NEAR(a.router_entropy.value(), b.router_entropy.value(), 1e-12);
    EXPECT_EQ(a.expert_load_max_over_mean, b.expert_load_max_over_mean);
    ASSERT_EQ(b.attention_map.size(), i == 1 ? 5u : 0u);
    ASSERT_EQ(a.attention_map.size(), b.attention_map.size());
    for (size_t row = 0; row < b.attention_map.size(); ++row) {
      EXPECT_THAT(a.attention_map[row], testing::Pointwise(testing::DoubleNear(1e-12), b.attention_map[row]));
    }
  }
}

TEST(Diagnostics, LeaveWhatIsComputedAsItIs) {
  // Uneven routing: what the experts keep changes its size from step to step.
  const TrainConfig config = tiny_config(
      {"model.init_std=0.7", "mesh.dp=2", "mesh.ep=2", "training.micro_batch_size=1", "model.moe.num_experts=6"}, 2);
  const auto losses = [&](bool looks) {
    std::vector<double> of_steps;
    run_ranks(2, [&](ProcessGroup& world) {
      TinyRun run(config, world);
      DiagnosticsProbe probe(config.model(), run.mesh(), DiagnosticsProbe::Detail::kCheap);
      for (int64_t step = 1; step <= 6; ++step) {
        run.step().set_probe(looks && step % 3 == 1 ? &probe : nullptr, 1);
        const double loss = run.run(step).losses.loss;
        if (world.rank() == 0) of_steps.push_back(loss);
      }
    });
    return of_steps;
  };
  EXPECT_EQ(losses(true), losses(false));
}

TEST(Diagnostics, AreLoggedUnderTheirNames) {
  const TrainConfig config = tiny_config(kTwoGates);
  WholeModel model(config);
  DiagnosticsProbe probe(config.model(), model.mesh(), DiagnosticsProbe::Detail::kCheap);
  model.show(probe);
  StepMetrics metrics;
  const ModelDiagnostics diagnostics = probe.finish();
  add_diagnostics(diagnostics, metrics);
  std::set<std::string> names;
  for_each_layer_array(metrics.layers, [&](const char* name, const std::vector<double>& values) {
    EXPECT_EQ(values.size(), 2u) << name;
    names.insert(name);
  });
  EXPECT_EQ(names, (std::set<std::string>{"gate_mean", "gate_std", "gate_below_0.1", "gate_mean.G2", "gate_std.G2",
                                          "gate_below_0.1.G2", "first_token_attention", "max_activation",
                                          "attention_logit_max"}));
  EXPECT_EQ(metrics.layers.gate_mean[1], diagnostics.layers[1].gates[0].mean);
  ASSERT_EQ(metrics.gate_scores.size(), 4u);
  EXPECT_EQ(metrics.gate_scores[3].tag, "gate_scores/G2/layer_01");
  double counted = 0;
  for (double count : metrics.gate_scores[0].counts) counted += count;
  EXPECT_EQ(counted, diagnostics.layers[0].gates[0].count);
}

TEST(Diagnostics, TheFirstMassiveFeedForwardLayerIsFound) {
  ModelDiagnostics diagnostics;
  diagnostics.layers.resize(4);
  EXPECT_FALSE(diagnostics.first_massive_mlp());
  diagnostics.layers[1].mlp_output_max = 100;
  diagnostics.layers[2].mlp_output_max = 101;
  diagnostics.layers[3].mlp_output_max = 500;
  EXPECT_EQ(diagnostics.first_massive_mlp(), 2);
}

TEST(Diagnostics, OfABlockThatRecomputesAreTheSame) {
  const auto diagnose = [](const std::vector<std::string>& more) {
    std::vector<std::string> overrides = kTwoGates;
    overrides.insert(overrides.end(), more.begin(), more.end());
    ModelDiagnostics diagnostics;
    run_ranks(1, [&](ProcessGroup& world) {
      const TrainConfig config = tiny_config(overrides);
      TinyRun run(config, world);
      DiagnosticsProbe probe(config.model(), run.mesh(), DiagnosticsProbe::Detail::kFull);
      run.step().set_probe(&probe);
      run.run(1);
      diagnostics = probe.finish();
    });
    return diagnostics;
  };
  const ModelDiagnostics saved = diagnose({}),
                         recomputed = diagnose({"training.recompute[0]={first_layer: 0 last_layer: 1}"});
  for (size_t i = 0; i < saved.layers.size(); ++i) {
    const LayerDiagnostics &a = recomputed.layers[i], &b = saved.layers[i];
    EXPECT_EQ(a.first_token_attention, b.first_token_attention);
    EXPECT_EQ(a.attention_logit_max, b.attention_logit_max);
    EXPECT_EQ(a.gates[0].count, b.gates[0].count);
    EXPECT_EQ(a.gates[1].mean, b.gates[1].mean);
    EXPECT_EQ(a.gated_output.mean, b.gated_output.mean);
    EXPECT_EQ(a.middle_max, b.middle_max);
    EXPECT_EQ(a.residual_max, b.residual_max);
    EXPECT_EQ(a.router_entropy, b.router_entropy);
  }
}

TEST(Diagnostics, AMassiveActivationIsAThousandMediansOfItsToken) {
  const TrainConfig config = tiny_config();
  // The median of a token is well above 0.15.
  for (double planted : {90.0, 150.0, 5000.0}) {
    WholeModel model(config);
    for (const ParameterRecord& r : model.records()) {
      // The first channel of every token.
      if (r.name != "model.embed_tokens.weight") continue;
      for (int64_t i = 0; i < r.count; i += 16) model.weights()[r.flat_begin + i] = planted;
    }
    DiagnosticsProbe probe(config.model(), model.mesh(), DiagnosticsProbe::Detail::kFull);
    model.show(probe);
    EXPECT_EQ(probe.finish().layers[0].massive, planted > 1000) << planted;
  }
}

TEST(Diagnostics, OfUniformAttentionAreTheHarmonicMean) {
  const TrainConfig config = tiny_config({"training.sequence_length=48"});
  WholeModel model(config);
  for (const ParameterRecord& r : model.records()) {
    if (r.name.find("q_proj") == std::string::npos) continue;
    std::fill(model.weights() + r.flat_begin, model.weights() + r.flat_begin + r.count, 0.0);
  }
  DiagnosticsProbe probe(config.model(), model.mesh(), DiagnosticsProbe::Detail::kFull);
  model.show(probe);
  // A query at position i gives each of its i + 1 keys the same.
  double harmonic = 0;
  for (int32_t position : model.batch().positions) harmonic += 1.0 / (position + 1);
  harmonic /= static_cast<double>(model.batch().positions.size());
  for (const LayerDiagnostics& layer : probe.finish().layers) {
    EXPECT_NEAR(layer.first_token_attention, harmonic, 1e-12);
    EXPECT_EQ(layer.attention_logit_max, 0);
  }
}

TEST(Diagnostics, TheCheapOnesAreThoseOfEveryFourthToken) {
  const TrainConfig config = tiny_config({"training.sequence_length=150"});
  WholeModel model(config);
  DiagnosticsProbe full(config.model(), model.mesh(), DiagnosticsProbe::Detail::kFull),
      cheap(config.model(), model.mesh(), DiagnosticsProbe::Detail::kCheap);
  model.show(full);
  model.show(cheap);
  const LayerDiagnostics all = full.finish().layers[1], some = cheap.finish().layers[1];
  EXPECT_EQ(some.gates[0].count, all.gates[0].count / 4);
  EXPECT_NEAR(some.gates[0].mean / all.gates[0].mean, 1, 0.1);
  EXPECT_NEAR(some.first_token_attention / all.first_token_attention, 1, 0.3);
  EXPECT_EQ(some.residual_max, all.residual_max);
  EXPECT_EQ(some.attention_logit_max, all.attention_logit_max);
}

TEST(Diagnostics, OfAFreshGateIsOneHalf) {
  const TrainConfig config =
      tiny_config({"model.hidden_size=256", "model.init_std=0.02", "training.sequence_length=64"});
  WholeModel model(config);
  DiagnosticsProbe probe(config.model(), model.mesh(), DiagnosticsProbe::Detail::kCheap);
  model.show(probe);
  for (const LayerDiagnostics& layer : probe.finish().layers) EXPECT_NEAR(layer.gates[0].mean, 0.5, 0.01);
}

}  // namespace
}  // namespace sluice
