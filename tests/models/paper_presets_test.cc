#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "models/count.h"
#include "runtime/config.h"
#include "runtime/validate.h"
#include "tests/source_dir.h"

// The rows of the paper: configs/paper/ at its sizes, configs/paper/laptop/ at small ones.
namespace sluice {
namespace {

/// "v05" and the like, and the files' names.
std::map<std::string, std::string> rows() {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() + "/configs/paper")) {
    const std::string name = entry.path().filename();
    if (name[0] == 'v') files.emplace(name.substr(0, 3), name);
  }
  return files;
}

TrainConfig preset(const std::string& row, const std::string& size = "") {
  return load_config(source_dir() + "/configs/paper/" + size + rows().at(row), {});
}

int64_t total(const std::string& row) { return count_parameters(preset(row).model()).total; }

/// A row's parameters beyond the baseline's.
int64_t added(const std::string& row) { return total(row) - total("v01"); }

TEST(PaperPresets, AddTheParametersOfTheirFormulas) {
  constexpr int64_t kLayers = 24, kHidden = 2048, kHeadDim = 128, kQuery = 32, kKey = 4;
  EXPECT_EQ(total("v01"), 15'577'227'264);
  EXPECT_EQ(added("v02"), kLayers * 2 * kHidden * 4 * kHeadDim);
  EXPECT_EQ(added("v03"), kLayers * 2 * kHidden * 16 * kHeadDim);
  EXPECT_EQ(added("v04"), kLayers * 4 * (3 * kHidden * 768 + kHidden));
  const int64_t active =
      count_parameters(preset("v04").model()).active - count_parameters(preset("v01").model()).active;
  EXPECT_EQ(active, kLayers * 4 * (3 * kHidden * 768 + kHidden));
  for (const char* row : {"v05", "v08", "v12", "v14", "v15", "v18", "v20"}) {
    EXPECT_EQ(added(row), kLayers * kHidden * kQuery * kHeadDim) << row;
  }
  for (const char* row : {"v06", "v07", "v13"}) EXPECT_EQ(added(row), kLayers * kHidden * kKey * kHeadDim) << row;
  EXPECT_EQ(added("v09"), kLayers * kHidden * kHidden);
  EXPECT_EQ(added("v10"), kLayers * kHidden * kQuery);
  for (const char* row : {"v11", "v25"}) EXPECT_EQ(added(row), kLayers * kHidden * kKey) << row;
  EXPECT_EQ(added("v16"), kLayers * kHeadDim);
  EXPECT_EQ(added("v17"), 0);
  EXPECT_EQ(added("v19"), kLayers * kQuery * kHeadDim);
  // Pools of m: m - 1 projections more for each of keys and values, and a router for each.
  EXPECT_EQ(added("v21"), kLayers * 2 * kHidden * kKey * (7 * kHeadDim + 8));
  EXPECT_EQ(added("v22"), kLayers * 2 * kHidden * kKey * (3 * kHeadDim + 4));
  EXPECT_EQ(added("v23"), kLayers * kHidden * kKey * (3 * kHeadDim + 4));
  EXPECT_EQ(added("v24"), kLayers * kHidden * kKey * (7 * kHeadDim + 8));
}

/// In millions, as the paper's column has them, to the digits of the computed one.
TEST(PaperPresets, AddTheMillionsOfTheComputedColumn) {
  const std::map<std::string, double> column = {{"v02", 50.33},  {"v03", 201.33}, {"v05", 201.33}, {"v06", 25.17},
                                                {"v07", 25.17},  {"v08", 201.33}, {"v09", 100.66}, {"v10", 1.573},
                                                {"v11", 0.197},  {"v12", 201.33}, {"v13", 25.17},  {"v14", 201.33},
                                                {"v15", 201.33}, {"v18", 201.33}, {"v19", 0.098},  {"v20", 201.33}};
  for (const auto& [row, millions] : column) {
    const double digits = millions < 10 ? 1e3 : 1e2;
    EXPECT_EQ(std::round(static_cast<double>(added(row)) / 1e6 * digits), std::round(millions * digits)) << row;
  }
  EXPECT_EQ(std::round(static_cast<double>(added("v04")) / 1e5), 4532);
}

int64_t total_with_released_vocabulary(const std::string& row) {
  ModelConfig model = preset(row).model();
  model.set_vocab_size(152064);
  return count_parameters(model).total;
}

TEST(PaperPresets, DenseGatedRowsMatchTheirBaselines) {
  EXPECT_EQ(total("v26"), 1'720'574'976);
  EXPECT_EQ(total("v30"), 1'705'735'680);
  EXPECT_EQ(total_with_released_vocabulary("v26"), 1'720'837'120);
  EXPECT_EQ(total_with_released_vocabulary("v30"), 1'705'932'288);
  // The released elementwise checkpoint: 1728.18M.
  EXPECT_EQ(total_with_released_vocabulary("v27"), 1'728'177'152);
  // The released headwise one: 1721.75M.
  ModelConfig headwise = preset("v26").model();
  headwise.add_gates()->set_granularity(GateSpec::HEADWISE);
  headwise.set_vocab_size(152064);
  EXPECT_EQ(count_parameters(headwise).total, 1'721'754'624);
  EXPECT_EQ(total("v34") - total("v30"), 48 * 1536 * 16);
  EXPECT_EQ(total("v32") - total("v30"), 48 * 2 * 1536);
  for (const char* row : {"v31", "v36", "v37", "v40", "v41"}) EXPECT_EQ(total(row), total("v30")) << row;
  for (const char* row : {"v35", "v38", "v39"}) EXPECT_EQ(total(row), total("v33")) << row;
  EXPECT_EQ(total("v28"), total("v26"));
  EXPECT_EQ(total("v29"), total("v27"));
  EXPECT_EQ(total("v42") - total("v28"), int64_t{28} * 2048 * 16 * 128);
  // The width that gives equal parameters, rounded up to a multiple of 128: at most that many columns too many.
  for (const auto& [gated, baseline] : {std::pair{"v27", "v26"}, {"v33", "v30"}}) {
    const ModelConfig model = preset(gated).model();
    const int64_t columns = 3 * model.hidden_size() * model.num_layers();
    EXPECT_GE(total(gated), total(baseline)) << gated;
    EXPECT_LT(total(gated) - total(baseline), 128 * columns) << gated;
    EXPECT_EQ(model.intermediate_size() % 128, 0) << gated;
  }
}

TEST(PaperPresets, HaveTheBatchesStepsAndLearningRatesOfTheirRows) {
  struct Run {
    int64_t batch, steps;
    double lr;
  };
  const auto expect = [](const std::string& row, const Run& run) {
    const TrainConfig config = preset(row);
    EXPECT_EQ(config.training().global_batch_size(), run.batch) << row;
    EXPECT_EQ(config.training().steps(), run.steps) << row;
    EXPECT_EQ(config.training().sequence_length(), 4096) << row;
    EXPECT_EQ(config.optimizer().lr(), run.lr) << row;
    EXPECT_EQ(config.optimizer().min_lr(), 3e-5) << row;
    EXPECT_EQ(config.optimizer().warmup_steps(), 1000) << row;
    EXPECT_EQ(config.optimizer().beta1(), 0.9) << row;
    EXPECT_EQ(config.optimizer().beta2(), 0.999) << row;
    EXPECT_EQ(config.optimizer().weight_decay(), 0.01) << row;
    if (config.model().has_moe()) {
      EXPECT_EQ(config.model().moe().balance_scope(), MoeConfig::RUNNING) << row;
    }
  };
  for (int row = 1; row <= 25; ++row) expect((row < 10 ? "v0" : "v") + std::to_string(row), {1024, 100'000, 2e-3});
  for (const char* row : {"v26", "v27", "v30", "v33", "v34"}) expect(row, {1024, 100'000, 4e-3});
  for (const char* row : {"v31", "v32", "v35", "v40", "v41"}) expect(row, {1024, 100'000, 8e-3});
  for (const char* row : {"v28", "v29"}) expect(row, {2048, 417'000, 4.5e-3});
  expect("v42", {2048, 9537, 4.5e-3});
  for (const char* row : {"v36", "v38"}) expect(row, {4096, 59'600, 5.3e-3});
  for (const char* row : {"v37", "v39"}) expect(row, {4096, 59'600, 8e-3});
}

/// What a row changes of the attention and of the way to the residual, in text.
std::string choices(const ModelConfig& model) {
  ModelConfig only;
  *only.mutable_gates() = model.gates();
  if (model.has_switch_head()) *only.mutable_switch_head() = model.switch_head();
  if (model.has_head_output()) only.set_head_output(model.head_output());
  if (model.has_sandwich_norm()) only.set_sandwich_norm(model.sandwich_norm());
  if (model.has_residual_clip()) only.set_residual_clip(model.residual_clip());
  return only.ShortDebugString();
}

TEST(PaperPresets, HaveTheGatesAndControlsOfTheirRows) {
  const std::string elementwise = "gates { position: G1 }";
  std::map<std::string, std::string> rows_of_the_paper = {
      {"v01", ""},
      {"v02", ""},
      {"v03", ""},
      {"v04", ""},
      {"v05", elementwise},
      {"v06", "gates { position: G2 }"},
      {"v07", "gates { position: G3 }"},
      {"v08", "gates { position: G4 }"},
      {"v09", "gates { position: G5 }"},
      {"v10", "gates { position: G1 granularity: HEADWISE }"},
      {"v11", "gates { position: G2 granularity: HEADWISE }"},
      {"v12", "gates { position: G1 sharing: HEAD_SHARED }"},
      {"v13", "gates { position: G2 sharing: HEAD_SHARED }"},
      {"v14", "gates { position: G1 combine: ADD activation: SILU }"},
      {"v15", "gates { position: G1 activation: SILU }"},
      {"v16", "head_output: RMS_NORM"},
      {"v17", "head_output: SILU"},
      {"v18", "gates { position: G1 combine: ADD activation: IDENTITY }"},
      {"v19", "gates { position: G1 input: INPUT_INDEPENDENT }"},
      {"v20", "gates { position: G1 activation: NS_SIGMOID }"},
      {"v21", "switch_head { of: KV num_experts: 8 top_k: 8 }"},
      {"v22", "switch_head { of: KV num_experts: 4 top_k: 4 }"},
      {"v23", "switch_head { of: V num_experts: 4 top_k: 4 }"},
      {"v24", "switch_head { of: V num_experts: 8 top_k: 2 }"},
      {"v25", "switch_head { of: V num_experts: 1 top_k: 1 }"},
      {"v32", "sandwich_norm: true"},
      {"v34", "gates { position: G1 granularity: HEADWISE }"},
      {"v40", "residual_clip: 300"},
      {"v41", "residual_clip: 100"},
      {"v42", "gates { position: G1 activation: TWICE_SIGMOID initialisation: ZERO }"}};
  for (const char* row : {"v27", "v29", "v33", "v35", "v38", "v39"}) rows_of_the_paper[row] = elementwise;
  for (const char* row : {"v26", "v28", "v30", "v31", "v36", "v37"}) rows_of_the_paper[row] = "";
  EXPECT_EQ(rows_of_the_paper.size(), 42u);
  for (const auto& [row, text] : rows_of_the_paper) {
    ModelConfig want;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &want)) << text;
    EXPECT_EQ(choices(preset(row).model()), want.ShortDebugString()) << row;
    EXPECT_EQ(choices(preset(row, "laptop/").model()), want.ShortDebugString()) << row;
  }
}

/// The fields of one message that another has with other values, as paths.
std::set<std::string> different_fields(const TrainConfig& a, const TrainConfig& b) {
  class Names : public google::protobuf::util::MessageDifferencer::Reporter {
   public:
    using Path = std::vector<google::protobuf::util::MessageDifferencer::SpecificField>;
    void ReportAdded(const google::protobuf::Message&, const google::protobuf::Message&, const Path& p) override {
      add(p);
    }
    void ReportDeleted(const google::protobuf::Message&, const google::protobuf::Message&, const Path& p) override {
      add(p);
    }
    void ReportModified(const google::protobuf::Message&, const google::protobuf::Message&, const Path& p) override {
      // A message is reported beside the fields in it.
      if (p.back().field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) add(p);
    }
    std::set<std::string> names;

   private:
    void add(const Path& path) {
      std::string name;
      for (const auto& step : path) name += (name.empty() ? "" : ".") + step.field->name();
      names.insert(name);
    }
  } names;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesTo(&names);
  differencer.Compare(a, b);
  return names.names;
}

TEST(PaperPresets, OfALaptopDifferOnlyInSizes) {
  const std::set<std::string> sizes = {"model.hidden_size",
                                       "model.num_layers",
                                       "model.num_attention_heads",
                                       "model.head_dim",
                                       "model.num_key_value_heads",
                                       "model.intermediate_size",
                                       "model.vocab_size",
                                       "model.moe.num_experts",
                                       "model.moe.top_k",
                                       "model.moe.moe_intermediate_size",
                                       "training.steps",
                                       "training.sequence_length",
                                       "training.micro_batch_size",
                                       "training.global_batch_size",
                                       "optimizer.warmup_steps",
                                       "checkpoint.every",
                                       "initial_checkpoint.path"};
  int seen = 0;
  for (const auto& [row, file] : rows()) {
    TrainConfig full = preset(row), small = preset(row, "laptop/");
    for (const std::string& field : different_fields(full, small)) {
      EXPECT_TRUE(sizes.count(field)) << file << ": " << field;
    }
    EXPECT_NO_THROW(validate_training(full, 8)) << file;
    EXPECT_NO_THROW(validate_training(small, 2)) << file;
    EXPECT_LT(count_parameters(small.model()).total, 5'000'000) << file;
    ++seen;
  }
  EXPECT_EQ(seen, 42);
}

TEST(PaperPresets, TheContextIsExtendedByEightyBillionTokens) {
  const std::string file = "context_32k.textproto";
  TrainConfig full = load_config(source_dir() + "/configs/paper/" + file, {}),
              small = load_config(source_dir() + "/configs/paper/laptop/" + file, {});
  const TrainingConfig& training = full.training();
  const double tokens =
      static_cast<double>(training.steps() * training.global_batch_size() * training.sequence_length());
  EXPECT_NEAR(tokens / 80e9, 1, 1e-3);
  EXPECT_EQ(preset("v29").model().rope_theta(), 1e4);
  EXPECT_EQ(full.model().rope_theta(), 1e6);
  EXPECT_EQ(small.model().rope_theta(), 1e6);
  validate_training(full, 8);
  validate_training(small, 2);
  EXPECT_EQ(full.training().sequence_length(), 32768);
  EXPECT_EQ(small.training().sequence_length(), 8 * preset("v29", "laptop/").training().sequence_length());
}

TEST(PaperPresets, ParityFindsTheWidthsOfTheGatedRows) {
  for (const auto& [gated, baseline] : {std::pair{"v27", "v26"}, {"v29", "v28"}, {"v33", "v30"}, {"v34", "v30"}}) {
    ModelConfig model = preset(baseline).model();
    *model.mutable_gates() = preset(gated).model().gates();
    model.set_ffn_parity_multiple(128);
    match_parameters(model);
    EXPECT_EQ(model.intermediate_size(), preset(gated).model().intermediate_size()) << gated;
    EXPECT_FALSE(model.has_ffn_parity_multiple());
    const int64_t more = count_parameters(model).total - total(baseline);
    const int64_t step = 128 * 3 * model.hidden_size() * model.num_layers();
    EXPECT_TRUE(0 <= more && more < step) << gated << " has " << more << " parameters more";
  }
}

TEST(PaperPresets, OfALaptopKeepTheProportionsOfTheirRow) {
  const auto model = [](const char* row) { return preset(row, "laptop/").model(); };
  EXPECT_EQ(model("v02").num_key_value_heads(), 2 * model("v01").num_key_value_heads());
  EXPECT_EQ(2 * model("v03").num_attention_heads(), 3 * model("v01").num_attention_heads());
  EXPECT_GT(model("v04").moe().top_k(), model("v01").moe().top_k());
  for (const auto& [gated, baseline] : {std::pair{"v27", "v26"}, {"v29", "v28"}, {"v33", "v30"}, {"v38", "v36"}}) {
    const double with = static_cast<double>(count_parameters(model(gated)).total),
                 without = static_cast<double>(count_parameters(model(baseline)).total);
    EXPECT_NEAR(with / without, 1, 0.01) << gated;
  }
}

}  // namespace
}  // namespace sluice
