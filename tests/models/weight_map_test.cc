#include "models/weight_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "models/parameters.h"
#include "runtime/config.h"

namespace sluice {
namespace {

using testing::ElementsAre;

constexpr int64_t kHeadDim = 2, kHidden = 3;

/// One layer; `gate` is empty, HEADWISE or ELEMENTWISE.
ModelConfig attention_model(int64_t heads, int64_t key_value_heads, const std::string& gate) {
  ModelConfig model = parse_config(R"(model { hidden_size: 3 num_layers: 1 head_dim: 2 intermediate_size: 4
                                              vocab_size: 5 tie_word_embeddings: true })",
                                   "test")
                          .model();
  model.set_num_attention_heads(heads);
  model.set_num_key_value_heads(key_value_heads);
  if (gate.empty()) return model;
  GateSpec::Granularity granularity = GateSpec::ELEMENTWISE;
  EXPECT_TRUE(GateSpec::Granularity_Parse(gate, &granularity));
  model.add_gates()->set_granularity(granularity);
  return model;
}

const ForeignTensor& find(const std::vector<ForeignTensor>& tensors, const std::string& name) {
  for (const ForeignTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << "no tensor " << name;
  return tensors.front();
}

struct Packing {
  int64_t heads, key_value_heads;
  std::string gate;
  int64_t rows;
  std::vector<WeightRun> runs;
};

TEST(WeightMap, QueriesAndGatesOfAKeyValueHeadLieTogether) {
  const std::string p = "model.layers.0.self_attn.", q = p + "q_proj.weight", g = p + "gates.g1.weight";
  const std::vector<Packing> cases = {{2, 2, "", 4, {{q, 0, 12}}},
                                      {4, 2, "", 8, {{q, 0, 24}}},
                                      {16, 2, "", 32, {{q, 0, 96}}},
                                      {2, 2, "HEADWISE", 6, {{q, 0, 6}, {g, 0, 3}, {q, 6, 6}, {g, 3, 3}}},
                                      {4, 2, "HEADWISE", 12, {{q, 0, 12}, {g, 0, 6}, {q, 12, 12}, {g, 6, 6}}},
                                      {16, 2, "HEADWISE", 48, {{q, 0, 48}, {g, 0, 24}, {q, 48, 48}, {g, 24, 24}}},
                                      {2, 2, "ELEMENTWISE", 8, {{q, 0, 6}, {g, 0, 6}, {q, 6, 6}, {g, 6, 6}}},
                                      {4, 2, "ELEMENTWISE", 16, {{q, 0, 12}, {g, 0, 12}, {q, 12, 12}, {g, 12, 12}}},
                                      {16, 2, "ELEMENTWISE", 64, {{q, 0, 48}, {g, 0, 48}, {q, 48, 48}, {g, 48, 48}}}};
  for (const Packing& packing : cases) {
    const auto tensors = hugging_face_tensors(attention_model(packing.heads, packing.key_value_heads, packing.gate));
    const ForeignTensor& tensor = find(tensors, q);
    EXPECT_EQ(tensor.runs, packing.runs) << packing.heads << packing.gate;
    EXPECT_THAT(tensor.shape, ElementsAre(packing.rows, kHidden)) << packing.heads << packing.gate;
  }
}

/// Of each row of the packed q_proj, the row of our q_proj, or of our gate plus 1000.
std::vector<int64_t> sources_of_rows(const ForeignTensor& tensor) {
  std::vector<int64_t> sources;
  for (const WeightRun& run : tensor.runs) {
    EXPECT_EQ(run.first % kHidden, 0);
    const int64_t offset = run.tensor.ends_with("gates.g1.weight") ? 1000 : 0;
    for (int64_t i = 0; i < run.count / kHidden; ++i) sources.push_back(offset + run.first / kHidden + i);
  }
  return sources;
}

TEST(WeightMap, RowsLieWhereTheFormulasOfTheReleasedCodeSay) {
  constexpr int64_t kGroups = 3;
  for (const int64_t G : {1, 2, 8}) {
    const auto headwise = hugging_face_tensors(attention_model(kGroups * G, kGroups, "HEADWISE"));
    const auto elementwise = hugging_face_tensors(attention_model(kGroups * G, kGroups, "ELEMENTWISE"));
    const std::string name = "model.layers.0.self_attn.q_proj.weight";
    const std::vector<int64_t> h = sources_of_rows(find(headwise, name)), e = sources_of_rows(find(elementwise, name));
    ASSERT_EQ(h.size(), static_cast<size_t>(kGroups * G * (kHeadDim + 1)));
    ASSERT_EQ(e.size(), static_cast<size_t>(kGroups * G * 2 * kHeadDim));
    for (int64_t g = 0; g < kGroups; ++g) {
      for (int64_t j = 0; j < G; ++j) {
        const int64_t head = g * G + j;
        EXPECT_EQ(h[static_cast<size_t>(g * (G * kHeadDim + G) + G * kHeadDim + j)], 1000 + head);
        for (int64_t c = 0; c < kHeadDim; ++c) {
          const int64_t channel = head * kHeadDim + c;
          EXPECT_EQ(h[static_cast<size_t>(g * (G * kHeadDim + G) + j * kHeadDim + c)], channel);
          EXPECT_EQ(e[static_cast<size_t>(2 * g * G * kHeadDim + j * kHeadDim + c)], channel);
          EXPECT_EQ(e[static_cast<size_t>(2 * g * G * kHeadDim + G * kHeadDim + j * kHeadDim + c)], 1000 + channel);
        }
      }
    }
  }
}

ModelConfig moe_model() {
  return parse_config(R"(model { hidden_size: 3 num_layers: 1 num_attention_heads: 1 num_key_value_heads: 1 head_dim: 2
                                 vocab_size: 5 moe { num_experts: 2 top_k: 1 moe_intermediate_size: 4 } })",
                      "test")
      .model();
}

TEST(WeightMap, HalvesAndExpertsAreTensorsOfTheirOwn) {
  const auto dense = hugging_face_tensors(attention_model(2, 2, ""));
  const std::string mlp = "model.layers.0.mlp.";
  EXPECT_THAT(find(dense, mlp + "gate_proj.weight").runs, ElementsAre(WeightRun{mlp + "gate_up_proj.weight", 0, 12}));
  EXPECT_THAT(find(dense, mlp + "up_proj.weight").runs, ElementsAre(WeightRun{mlp + "gate_up_proj.weight", 12, 12}));
  EXPECT_THAT(find(dense, mlp + "up_proj.weight").shape, ElementsAre(4, 3));
  EXPECT_THAT(find(dense, mlp + "down_proj.weight").shape, ElementsAre(3, 4));

  const auto moe = hugging_face_tensors(moe_model());
  const std::string up = mlp + "experts.gate_up_proj", down = mlp + "experts.down_proj";
  EXPECT_THAT(find(moe, mlp + "gate.weight").runs, ElementsAre(WeightRun{mlp + "router.weight", 0, 6}));
  EXPECT_THAT(find(moe, mlp + "experts.0.gate_proj.weight").runs, ElementsAre(WeightRun{up, 0, 12}));
  EXPECT_THAT(find(moe, mlp + "experts.0.up_proj.weight").runs, ElementsAre(WeightRun{up, 12, 12}));
  EXPECT_THAT(find(moe, mlp + "experts.1.gate_proj.weight").runs, ElementsAre(WeightRun{up, 24, 12}));
  EXPECT_THAT(find(moe, mlp + "experts.1.up_proj.weight").runs, ElementsAre(WeightRun{up, 36, 12}));
  EXPECT_THAT(find(moe, mlp + "experts.1.down_proj.weight").runs, ElementsAre(WeightRun{down, 12, 12}));
  EXPECT_THAT(find(moe, mlp + "experts.1.down_proj.weight").shape, ElementsAre(3, 4));
}

TEST(WeightMap, NamesAreThoseOfHuggingFace) {
  std::vector<std::string> names;
  for (const ForeignTensor& tensor : hugging_face_tensors(moe_model())) names.push_back(tensor.name);
  const std::string l = "model.layers.0.";
  EXPECT_THAT(
      names,
      ElementsAre("model.embed_tokens.weight", l + "input_layernorm.weight", l + "self_attn.q_proj.weight",
                  l + "self_attn.k_proj.weight", l + "self_attn.v_proj.weight", l + "self_attn.q_norm.weight",
                  l + "self_attn.k_norm.weight", l + "self_attn.o_proj.weight", l + "post_attention_layernorm.weight",
                  l + "mlp.gate.weight", l + "mlp.experts.0.gate_proj.weight", l + "mlp.experts.0.up_proj.weight",
                  l + "mlp.experts.1.gate_proj.weight", l + "mlp.experts.1.up_proj.weight",
                  l + "mlp.experts.0.down_proj.weight", l + "mlp.experts.1.down_proj.weight", "model.norm.weight",
                  "lm_head.weight"));
}

TEST(WeightMap, TheOtherWayRoundCoversEveryParameterInOrder) {
  for (const ModelConfig& model : {attention_model(8, 1, "HEADWISE"), attention_model(4, 2, "ELEMENTWISE"),
                                   attention_model(2, 2, ""), moe_model()}) {
    const auto runs = inverted(hugging_face_tensors(model));
    const std::vector<ParameterRecord> records = parameter_records(model);
    EXPECT_EQ(runs.size(), records.size());
    for (const ParameterRecord& record : records) {
      int64_t count = 0;
      for (const WeightRun& run : runs.at(record.name)) count += run.count;
      EXPECT_EQ(count, record.global_count()) << record.name;
    }
  }
  const std::string p = "model.layers.0.self_attn.";
  const auto runs = inverted(hugging_face_tensors(attention_model(4, 2, "HEADWISE")));
  EXPECT_THAT(runs.at(p + "gates.g1.weight"),
              ElementsAre(WeightRun{p + "q_proj.weight", 12, 6}, WeightRun{p + "q_proj.weight", 30, 6}));
}

TEST(WeightMap, AParameterWithoutANameThereIsADefectOfTheCaller) {
  ModelConfig model = moe_model();
  model.set_sandwich_norm(true);
  EXPECT_THROW(hugging_face_tensors(model), Error);
}

}  // namespace
}  // namespace sluice
