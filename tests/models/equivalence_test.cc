#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include <gtest/gtest.h>

#include "tests/models/whole_model.h"

// Configurations that are the same model by other names.
namespace sluice {
namespace {

/// A parameter of one model and the values it takes from another.
using Carry = std::function<std::vector<double>(const std::string& name, const std::vector<double>& own)>;

void fill(WholeModel& model, const Carry& carry) {
  for (const ParameterRecord& r : model.records()) {
    const std::vector<double> values = carry(r.name, model.weights_of(r));
    ASSERT_EQ(values.size(), static_cast<size_t>(r.count)) << r.name;
    std::copy(values.begin(), values.end(), model.weights() + r.flat_begin);
  }
}

std::map<std::string, std::vector<double>> all_weights(WholeModel& model) {
  std::map<std::string, std::vector<double>> weights;
  for (const ParameterRecord& r : model.records()) weights[r.name] = model.weights_of(r);
  return weights;
}

std::string with(std::string name, const std::string& old_part, const std::string& new_part) {
  const size_t at = name.find(old_part);
  return at == std::string::npos ? name : name.replace(at, old_part.size(), new_part);
}

TEST(Equivalence, OneSwitchedValueExpertIsTheHeadwiseGateOfValues) {
  WholeModel gate(tiny_config({"model.gates[0]={position: G2 granularity: HEADWISE}"}));
  WholeModel pool(tiny_config({"model.gates=", "model.switch_head={num_experts: 1 top_k: 1}"}));
  const auto weights = all_weights(gate);
  fill(pool, [&](const std::string& name, const auto&) {
    return weights.at(with(name, "self_attn.v_router.", "self_attn.gates.g2."));
  });
  EXPECT_NEAR(pool.loss() / gate.loss(), 1, 1e-14);
  for (const ParameterRecord& r : gate.records()) {
    const std::string name = with(r.name, "self_attn.gates.g2.", "self_attn.v_router.");
    const auto same = std::find_if(pool.records().begin(), pool.records().end(),
                                   [&](const ParameterRecord& other) { return other.name == name; });
    ASSERT_NE(same, pool.records().end()) << name;
    EXPECT_LE(reference::relative_l2(pool.gradient_of(*same), gate.gradient_of(r)), 1e-12) << name;
  }
}

TEST(Equivalence, NsSigmoidIsHalfOfOneAndASigmoid) {
  // y (0.5 + 0.5 s) is the mean of an ungated layer's output and a sigmoid gate's: of o_proj, which is linear.
  TrainConfig config = tiny_config({"model.num_layers=1"});
  WholeModel sigmoid(config);
  config.mutable_model()->mutable_gates(0)->set_activation(GateSpec::NS_SIGMOID);
  WholeModel ns(config);
  const auto gated = [](WholeModel& model) {
    std::vector<double> out;
    model.after_forward([&](const TransformerSaved& saved) {
      const Tensor t = saved.blocks[0].attention.gated;
      out.assign(t.as<double>(), t.as<double>() + t.count());
    });
    return out;
  };
  std::vector<double> want = gated(sigmoid);
  sigmoid.after_forward([&](const TransformerSaved& saved) {
    const double* y = saved.blocks[0].attention.out.as<double>();
    for (size_t i = 0; i < want.size(); ++i) want[i] = 0.5 * y[i] + 0.5 * want[i];
  });
  EXPECT_LE(reference::relative_l2(gated(ns), want), 1e-15);
}

/// That loss and logits of a model with a gate that changes nothing are those of the ungated one.
void expect_ungated(const std::string& gate, double bias) {
  WholeModel ungated(tiny_config({"model.gates="}));
  const auto weights = all_weights(ungated);
  for (const char* position : {"G1", "G2", "G3", "G4", "G5"}) {
    WholeModel gated(tiny_config({concat("model.gates[0]={position: ", position, " ", gate, "}")}));
    fill(gated, [&](const std::string& name, const std::vector<double>& own) {
      if (name.find(".gates.") == std::string::npos) return weights.at(name);
      return std::vector<double>(own.size(), name.find(".bias") == std::string::npos ? 0 : bias);
    });
    // G5 stands between the layer and the residual, whose sum is then taken in another order.
    const double tolerance = std::string(position) == "G5" ? 1e-14 : 0;
    EXPECT_LE(std::abs(gated.loss() / ungated.loss() - 1), tolerance) << position << " " << gate;
    EXPECT_LE(reference::relative_l2(gated.logits(), ungated.logits()), tolerance) << position << " " << gate;
  }
}

TEST(Equivalence, ScoresOfOneChangeNothing) {
  expect_ungated("activation: IDENTITY bias: true", 1);
  expect_ungated("activation: IDENTITY input: INPUT_INDEPENDENT", 1);
  expect_ungated("activation: TWICE_SIGMOID", 0);
  expect_ungated("activation: TWICE_SIGMOID input: INPUT_INDEPENDENT", 0);
  expect_ungated("combine: ADD activation: SILU bias: true", 0);
}

/// That scores which one head shares with none are its own, bit for bit.
void expect_own(const std::string& gate, const std::string& average) {
  const auto config = [&](const std::string& sharing) {
    return tiny_config(
        {"model.num_attention_heads=1", "model.num_key_value_heads=1", concat("model.gates[0]={", gate, sharing, "}")});
  };
  WholeModel of_head(config("")), of_all(config(" sharing: HEAD_SHARED average: " + average));
  EXPECT_EQ(of_all.loss(), of_head.loss()) << gate << " " << average;
  for (const ParameterRecord& r : of_all.records()) {
    EXPECT_EQ(of_all.gradient_of(r), of_head.gradient_of(r)) << gate << " " << average << " " << r.name;
  }
}

TEST(Equivalence, SharedScoresOfOneHeadAreItsOwn) {
  for (const char* position : {"G1", "G2", "G3", "G4"}) {
    for (const char* granularity : {"ELEMENTWISE", "HEADWISE"}) {
      for (const char* activation : {"SIGMOID", "SILU", "NS_SIGMOID", "IDENTITY"}) {
        for (const char* combine : {"MULTIPLY", "ADD"}) {
          const bool normed = std::string(position) == "G3" || std::string(position) == "G4";
          const std::string gate =
              concat("position: ", position, " granularity: ", granularity, " activation: ", activation,
                     " combine: ", combine, normed ? " before_qk_norm: false" : "");
          for (const char* average : {"SCORES", "LOGITS"}) expect_own(gate, average);
        }
      }
    }
  }
}

TEST(Equivalence, AClipThatNothingReachesIsNone) {
  WholeModel plain(tiny_config()), clipped(tiny_config({"model.residual_clip=1e6"}));
  EXPECT_NEAR(clipped.loss() / plain.loss(), 1, 1e-14);
  for (const ParameterRecord& r : plain.records()) {
    EXPECT_LE(reference::relative_l2(clipped.gradient_of(r), plain.gradient_of(r)), 1e-12) << r.name;
  }
}

TEST(Initialisation, AGateStartsAtOneHalfOrWhereItIsAsked) {
  const auto start = [](const char* gate) {
    const TrainConfig config = tiny_config({concat("model.gates[0]={position: G1 ", gate, "}")});
    return parameter_records(config.model());
  };
  const auto of_gate = [](const std::vector<ParameterRecord>& records, const char* part) {
    for (const ParameterRecord& r : records) {
      if (r.name == concat("model.layers.0.self_attn.gates.g1.", part)) return r;
    }
    ADD_FAILURE() << "no " << part;
    return ParameterRecord{};
  };
  EXPECT_EQ(of_gate(start(""), "weight").initialisation, Initialisation::kNormal);
  EXPECT_EQ(of_gate(start("initialisation: ZERO"), "weight").initialisation, Initialisation::kZeros);
  EXPECT_EQ(of_gate(start("bias: true initialisation: RANDOM"), "bias").initialisation, Initialisation::kZeros);
  EXPECT_EQ(of_gate(start("input: INPUT_INDEPENDENT"), "bias").initialisation, Initialisation::kZeros);
  EXPECT_EQ(of_gate(start("input: INPUT_INDEPENDENT initialisation: RANDOM"), "bias").initialisation,
            Initialisation::kNormal);
  EXPECT_FALSE(of_gate(start("bias: true"), "bias").weight_decay);
}

}  // namespace
}  // namespace sluice
