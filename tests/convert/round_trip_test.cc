#include <cstring>

#include <nlohmann/json.hpp>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/verify.h"
#include "runtime/checkpoint_list.h"
#include "runtime/convert/export.h"
#include "runtime/convert/import.h"
#include "tests/convert/saved_model.h"

namespace sluice {
namespace {

using testing::HasSubstr;

HuggingFaceFormat format_of(const TrainConfig& config) {
  return config.model().has_moe() ? HuggingFaceFormat::kQwen3Moe : HuggingFaceFormat::kQwen3Gated;
}

void expect_good(const std::string& step_dir) {
  const auto model_of = [&](const Manifest& manifest) { return saved_parameters(manifest, step_dir); };
  EXPECT_THAT(verify_checkpoint(step_dir, model_of).problems, testing::IsEmpty());
}

/// Exports, imports and exports again: the same weights, and the same files.
void expect_round_trip(const TrainConfig& config, int64_t largest_file_bytes = 5'000'000'000) {
  const TempFolder folder;
  const std::string step_dir = save_model(config, folder / "run");
  const HuggingFaceFormat format = format_of(config);
  const ExportSummary summary = export_hugging_face({step_dir, folder / "there", format, largest_file_bytes});
  const ImportSummary imported = import_hugging_face(folder / "there", folder / "back", format);
  EXPECT_THAT(imported.ignored_keys, testing::IsEmpty());
  EXPECT_TRUE(summary.has_tokenizer && imported.has_tokenizer);
  EXPECT_EQ(weights_of(folder / "back"), weights_of(step_dir));
  expect_good(folder / "back");
  export_hugging_face({folder / "back", folder / "again", format, largest_file_bytes});
  EXPECT_EQ(files_of(folder / "there"), files_of(folder / "again"));
}

TEST(Convert, RoundTripsGatesOfEveryGroupSize) {
  for (const char* heads : {"2", "4", "16"}) {
    for (const char* gate : {"", "{granularity: HEADWISE}", "{granularity: ELEMENTWISE}"}) {
      std::vector<std::string> overrides = {concat("model.num_attention_heads=", heads), "model.gates="};
      if (*gate) overrides.push_back(concat("model.gates[0]=", gate));
      SCOPED_TRACE(testing::PrintToString(overrides));
      expect_round_trip(small_config(overrides));
      expect_round_trip(small_dense_config(overrides));
    }
  }
}

TEST(Convert, RoundTripsTiedEmbeddingsYarnAndModelsWithoutQkNorm) {
  expect_round_trip(small_config({"model.tie_word_embeddings=true", "model.moe.norm_topk_prob=false"}));
  expect_round_trip(small_config({"model.yarn={factor: 4 original_length: 128 beta_fast: 16}"}));
  expect_round_trip(small_dense_config({"model.qk_norm=false", "model.rope_theta=1e6"}));
}

TEST(Convert, WeightsOfAnyLayoutAreExported) {
  expect_round_trip(small_config({"mesh.dp=2", "mesh.tp=2", "mesh.ep=2", "mesh.etp=2", "model.moe.num_experts=6",
                                  "model.moe.moe_intermediate_size=8", "training.micro_batch_size=2"},
                                 4));
}

TEST(Convert, LargeModelsAreSplitIntoFilesWithAnIndex) {
  constexpr int64_t kLargest = 10000;
  const TrainConfig config = small_config();
  expect_round_trip(config, kLargest);
  const TempFolder folder;
  const std::string step_dir = save_model(config, folder / "run");
  const ExportSummary summary = export_hugging_face({step_dir, folder / "x", HuggingFaceFormat::kQwen3Moe, kLargest});
  EXPECT_GT(summary.files, 3);
  const auto files = files_of(folder / "x");
  const nlohmann::json index = nlohmann::json::parse(files.at("model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], summary.bytes);
  int tensors = 0;
  int64_t bytes = 0;
  for (int i = 1; i <= summary.files; ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", i, summary.files);
    const SafetensorsFile file(folder / (std::string("x/") + name));
    int64_t file_bytes = 0;
    for (const SafetensorsEntry& entry : file.entries()) {
      EXPECT_EQ(index["weight_map"][entry.name], name);
      file_bytes += entry.end - entry.begin;
      ++tensors;
    }
    EXPECT_TRUE(file_bytes <= kLargest || file.entries().size() == 1);
    bytes += file_bytes;
  }
  EXPECT_EQ(bytes, summary.bytes);
  EXPECT_EQ(index["weight_map"].size(), static_cast<size_t>(tensors));
}

TEST(Convert, OurOwnFormatKeepsWeightsAndConfigurationButNoMoments) {
  for (const char* precision : {"precision=F32", "precision=F64"}) {
    const TempFolder folder;
    const std::string step_dir = save_model(small_config({precision}), folder / "run");
    const ExportSummary summary = export_weights(step_dir, folder / "weights");
    EXPECT_TRUE(summary.has_tokenizer);
    EXPECT_EQ(weights_of(folder / "weights"), weights_of(step_dir));
    expect_good(folder / "weights");
    CheckpointReader reader(folder / "weights"), original(step_dir);
    EXPECT_EQ(reader.manifest().config(), original.manifest().config());
    EXPECT_EQ(reader.manifest().step(), 1);
    EXPECT_EQ(reader.manifest().pieces(0).dtype(), original.manifest().pieces(0).dtype());
    EXPECT_FALSE(reader.has("model.norm.weight", Piece::M));
    EXPECT_EQ(files_of(folder / "weights").at("tokenizer.json"), files_of(step_dir).at("tokenizer.json"));
  }
}

TEST(Convert, ACheckpointWithoutATokenizerIsExportedWithoutOne) {
  const TempFolder folder;
  const std::string step_dir = save_model(small_config(), folder / "run", "");
  EXPECT_FALSE(export_hugging_face({step_dir, folder / "x"}).has_tokenizer);
  const auto files = files_of(folder / "x");
  EXPECT_EQ(files.count("tokenizer.json") + files.count("tokenizer_config.json"), 0u);
  EXPECT_TRUE(nlohmann::json::parse(files.at("config.json"))["eos_token_id"].is_null());
  EXPECT_FALSE(import_hugging_face(folder / "x", folder / "back", HuggingFaceFormat::kQwen3Moe).has_tokenizer);
}

TEST(Convert, NothingIsLeftOfAnExportThatFails) {
  const TempFolder folder;
  const std::string step_dir = save_model(small_config(), folder / "run");
  const std::string shard = step_dir + "/shard-00000-of-00001.safetensors";
  std::string bytes = files_of(step_dir).at("shard-00000-of-00001.safetensors");
  // Of the last weights: moments follow.
  const SafetensorsFile file(shard);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes[8 + header + static_cast<size_t>(file.find("lm_head.weight").begin)] ^= 1;
  std::ofstream(shard, std::ios::binary) << bytes;
  std::filesystem::create_directory(folder / "empty");
  for (const char* out : {"new", "empty"}) {
    EXPECT_THAT(error_of([&] { export_hugging_face({step_dir, folder / out}); }), HasSubstr("the file is damaged"));
    EXPECT_THAT(error_of([&] { export_weights(step_dir, folder / out); }), HasSubstr("the file is damaged"));
  }
  EXPECT_FALSE(folder.has("new"));
  EXPECT_TRUE(std::filesystem::is_empty(folder / "empty"));
}

TEST(Convert, AFolderThatHoldsAnythingIsNotWrittenTo) {
  const TempFolder folder;
  const std::string step_dir = save_model(small_config(), folder / "run");
  std::filesystem::create_directory(folder / "full");
  folder.write("full/mine", "text");
  folder.write("file", "text");
  EXPECT_THAT(error_of([&] { export_hugging_face({step_dir, folder / "full"}); }), HasSubstr("is not empty"));
  EXPECT_THAT(error_of([&] { export_weights(step_dir, folder / "full"); }), HasSubstr("is not empty"));
  EXPECT_THAT(error_of([&] { export_weights(step_dir, folder / "file"); }), HasSubstr("not a folder"));
  EXPECT_EQ(files_of(folder / "full").at("mine"), "text");
}

}  // namespace
}  // namespace sluice
