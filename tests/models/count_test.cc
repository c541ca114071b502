#include "models/count.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "models/parameters.h"
#include "parallel/flat_layout.h"
#include "runtime/config.h"
#include "tests/source_dir.h"

namespace sluice {
namespace {

ModelConfig shipped(const std::string& name) {
  return load_config(source_dir() + "/configs/" + name + ".textproto", {}).model();
}

TEST(ParameterCount, MatchesThePaperFor15A2B) {
  const ParameterCount count = count_parameters(shipped("moe_15a2b_baseline"));
  EXPECT_EQ(count.total, 15'577'227'264);
  EXPECT_EQ(count.active, 1'987'682'304);
}

TEST(ParameterCount, GatesAddWhatThePaperSays) {
  const ParameterCount baseline = count_parameters(shipped("moe_15a2b_baseline"));
  const ParameterCount elementwise = count_parameters(shipped("moe_15a2b_g1_elementwise"));
  const ParameterCount headwise = count_parameters(shipped("moe_15a2b_g1_headwise"));
  EXPECT_EQ(elementwise.total - baseline.total, 24 * 2048 * 32 * 128);
  EXPECT_EQ(elementwise.active - baseline.active, 24 * 2048 * 32 * 128);
  EXPECT_EQ(headwise.total - baseline.total, 24 * 2048 * 32);
}

TEST(ParameterCount, ParityNarrowsExpertsToo) {
  ModelConfig model = shipped("moe_15a2b_g1_elementwise");
  model.set_ffn_parity_multiple(1);
  match_parameters(model);
  // 128 experts share what 2048 x 4096 parameters of the gate are worth.
  EXPECT_EQ(model.moe().moe_intermediate_size(), 768 - 2048 * 4096 / (3 * 2048 * 128));
  EXPECT_GE(count_parameters(model).total, count_parameters(shipped("moe_15a2b_baseline")).total);
}

TEST(ParameterCount, ParityNeverWidensAndRefusesWhatIsTooMuch) {
  ModelConfig model = shipped("moe_15a2b_g1_headwise");
  model.set_ffn_parity_multiple(1000);
  match_parameters(model);
  EXPECT_EQ(model.moe().moe_intermediate_size(), 768);
  model.mutable_moe()->set_num_experts(1);
  model.mutable_moe()->set_top_k(1);
  model.mutable_moe()->set_moe_intermediate_size(8);
  model.set_ffn_parity_multiple(1);
  EXPECT_THROW(match_parameters(model), Error);
}

TEST(ParameterCount, MatchesThePaperForTheDenseModel) {
  const ParameterCount count = count_parameters(shipped("dense_1p7b_28l_baseline"));
  EXPECT_EQ(count.total, 1'720'574'976);
  EXPECT_EQ(count.active, count.total);
  ModelConfig wider = shipped("dense_1p7b_28l_baseline");
  wider.set_vocab_size(152064);
  EXPECT_EQ(count_parameters(wider).total, 1'720'837'120);
}

TEST(ParameterCount, DenseGatedModelWithNarrowerFeedForwardIsCloseToTheBaseline) {
  ModelConfig gated = shipped("dense_1p7b_28l_g1_elementwise");
  gated.set_vocab_size(152064);
  // 1 720 837 120 + 28 * (2048 * 2048 - 3 * 2048 * (6144 - 5504)), the 1728.18M of the released checkpoint.
  EXPECT_EQ(count_parameters(gated).total, 1'728'177'152);
}

TEST(ParameterRecords, NamesAreUniqueAndRangesDoNotOverlap) {
  const ModelConfig config = shipped("moe_15a2b_g1_elementwise");
  std::vector<ParameterRecord> records = parameter_records(config);
  const FlatLayout layout(records, {});
  std::set<std::string> names;
  std::map<int64_t, int64_t> ranges;  // begin to end
  for (const ParameterRecord& r : records) {
    EXPECT_TRUE(names.insert(r.name).second) << r.name;
    EXPECT_EQ(r.flat_begin % 16, 0) << r.name;
    EXPECT_EQ(r.count, r.global_count()) << r.name;
    EXPECT_TRUE(ranges.emplace(r.flat_begin, r.flat_begin + r.count).second) << r.name;
  }
  int64_t end = 0;
  for (const auto& [begin, range_end] : ranges) {
    EXPECT_GE(begin, end);
    end = range_end;
  }
  EXPECT_LE(end, layout.count());
  EXPECT_TRUE(names.count("model.layers.23.mlp.experts.gate_up_proj"));
  EXPECT_TRUE(names.count("model.layers.0.self_attn.gates.g1.weight"));
}

TEST(ParameterRecords, NormsAreNotDecayedAndEmbeddingsByChoice) {
  const ModelConfig config = shipped("moe_15a2b_baseline");
  for (const bool decay_embeddings : {false, true}) {
    for (const ParameterRecord& r : parameter_records(config, decay_embeddings)) {
      const bool norm = r.name.find("norm") != std::string::npos;
      const bool embedding = r.name == "model.embed_tokens.weight" || r.name == "lm_head.weight";
      EXPECT_EQ(r.weight_decay, !norm && (!embedding || decay_embeddings)) << r.name;
    }
  }
}

TEST(ParameterRecords, MupScalesHiddenMatricesOnly) {
  ModelConfig config = shipped("dense_1p7b_28l_baseline");
  config.mutable_mup()->set_base_hidden_size(512);
  for (const ParameterRecord& r : parameter_records(config)) {
    const bool hidden_matrix = r.global_shape.size() > 1 && r.name != "model.embed_tokens.weight";
    EXPECT_DOUBLE_EQ(r.lr_scale, hidden_matrix ? 0.25 : 1) << r.name;
    if (r.global_shape.size() > 1) {
      EXPECT_DOUBLE_EQ(r.init_std, hidden_matrix ? 0.01 : 0.02) << r.name;
    }
  }
}

}  // namespace
}  // namespace sluice
