#include <cmath>
#include <cstring>
#include <numeric>

#include <nlohmann/json.hpp>

#include "runtime/checkpoint/manifest.h"
#include "runtime/convert/export.h"
#include "runtime/convert/hugging_face_folder.h"
#include "runtime/convert/import.h"
#include "tests/convert/saved_model.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr HuggingFaceFormat kMoe = HuggingFaceFormat::kQwen3Moe;

/// A safetensors file as its tensors: name -> dtype, shape, bytes.
struct LooseTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using LooseTensors = std::map<std::string, LooseTensor>;

LooseTensors load(const std::string& path) {
  LooseTensors tensors;
  const SafetensorsFile file(path);
  for (const SafetensorsEntry& entry : file.entries()) {
    std::string bytes(static_cast<size_t>(entry.end - entry.begin), '\0');
    file.read(entry, 0, entry.end - entry.begin, bytes.data());
    tensors[entry.name] = {entry.dtype, entry.shape, bytes};
  }
  return tensors;
}

void store(const std::string& path, const LooseTensors& tensors) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) entries.push_back({name, tensor.dtype, tensor.shape, 0, 0});
  SafetensorsWriter writer(path, entries);
  for (const auto& [name, tensor] : tensors) writer.write(tensor.bytes.data(), tensor.bytes.size());
  writer.commit();
}

/// An exported model, to be damaged.
class Exported : public testing::Test {
 protected:
  explicit Exported(int64_t largest_file_bytes = 5'000'000'000, std::vector<std::string> overrides = {})
      : step_dir_(save_model(small_config(std::move(overrides)), folder_ / "run")) {
    export_hugging_face({step_dir_, folder_ / "x", kMoe, largest_file_bytes});
  }

  std::string import_error() {
    const std::string error = error_of([&] { import_hugging_face(folder_ / "x", folder_ / "back", kMoe); });
    EXPECT_FALSE(folder_.has("back"));
    return error;
  }
  /// import_error() with other tensors than were exported.
  template <class Change>
  std::string error_with(const Change& change) {
    LooseTensors tensors = good_;
    change(tensors);
    store(folder_ / "x/model.safetensors", tensors);
    return import_error();
  }

  const TempFolder folder_;
  const std::string step_dir_;
  LooseTensors good_;
};

class ExportedInOneFile : public Exported {
 protected:
  ExportedInOneFile() { good_ = load(folder_ / "x/model.safetensors"); }
};

TEST_F(ExportedInOneFile, WithTensorsMissingAddedOrOfAnotherKindIsRefusedByName) {
  const std::string name = "model.layers.1.mlp.experts.3.up_proj.weight";
  EXPECT_THAT(error_with([&](LooseTensors& t) { t.erase(name); }),
              AllOf(HasSubstr("x/model.safetensors"), HasSubstr("there is no tensor \"" + name + "\"")));
  EXPECT_THAT(error_with([&](LooseTensors& t) {
                t["extra"] = {"F32", {1}, "1234"};
              }),
              AllOf(HasSubstr("x/model.safetensors"), HasSubstr("\"extra\" is not part of the model")));
  EXPECT_THAT(error_with([&](LooseTensors& t) { std::swap(t[name].shape[0], t[name].shape[1]); }),
              HasSubstr("\"" + name + "\" has the shape [16, 7], config.json says [7, 16]"));
  EXPECT_THAT(error_with([&](LooseTensors& t) { t[name].dtype = "I32"; }),
              HasSubstr("is I32; expected F32, F16 or BF16"));
  EXPECT_THAT(error_with([&](LooseTensors& t) { t.clear(); }), HasSubstr("but there are 0 tensors"));
}

TEST_F(ExportedInOneFile, WithoutItsPartsIsRefused) {
  std::filesystem::remove(folder_ / "x/model.safetensors");
  EXPECT_THAT(import_error(), HasSubstr("holds neither model.safetensors nor model.safetensors.index.json"));
  std::filesystem::remove(folder_ / "x/config.json");
  EXPECT_THAT(import_error(), HasSubstr("x/config.json: cannot open"));
}

TEST_F(ExportedInOneFile, WithSizesThatCannotBeIsRefusedBeforeAnythingIsMade) {
  const Json config = Json::parse(folder_.read("x/config.json"));
  for (const auto& [changes, text] :
       {std::pair{R"({"num_hidden_layers": 10000, "num_experts": 1000})", "asks for 30000000 matrices"},
        {R"({"num_hidden_layers": -1})", "x/config.json: model.num_layers=-1"},
        {R"({"head_dim": 5})", "x/config.json: model.head_dim=5 must be even"},
        {R"({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 1, "beta_slow": 20}})",
         "x/config.json: model.yarn.original_length=1: its ramp lies outside"}}) {
    Json changed = config;
    changed.update(Json::parse(changes));
    folder_.write("x/config.json", changed.dump());
    EXPECT_THAT(import_error(), HasSubstr(text));
  }
}

TEST_F(ExportedInOneFile, WithAnotherTokenizerThanTheVocabularyHoldsIsRefused) {
  folder_.write("x/tokenizer.json", "{}");
  EXPECT_THAT(import_error(), HasSubstr("x/tokenizer.json: model: missing"));
}

TEST_F(ExportedInOneFile, InHalfPrecisionIsWidened) {
  LooseTensors tensors = good_;
  for (auto& [name, tensor] : tensors) {
    const bool brain = name.find("mlp") != std::string::npos;
    std::string half;
    for (size_t i = 0; i < tensor.bytes.size(); i += 4) {
      // 1.5 in both, so that the bytes say which was read.
      half += brain ? std::string("\xc0\x3f", 2) : std::string("\x00\x3e", 2);
    }
    tensor.dtype = brain ? "BF16" : "F16";
    tensor.bytes = half;
  }
  store(folder_ / "x/model.safetensors", tensors);
  import_hugging_face(folder_ / "x", folder_ / "back", kMoe);
  for (const auto& [name, values] : weights_of(folder_ / "back")) {
    EXPECT_THAT(values, testing::Each(1.5f)) << name;
  }
}

class ExportedTied : public Exported {
 protected:
  ExportedTied() : Exported(5'000'000'000, {"model.tie_word_embeddings=true"}) {
    good_ = load(folder_ / "x/model.safetensors");
  }
};

TEST_F(ExportedTied, MayHoldItsHeadTwiceIfBothAreEqual) {
  const LooseTensor& embedding = good_.at("model.embed_tokens.weight");
  EXPECT_THAT(error_with([&](LooseTensors& t) { (t["lm_head.weight"] = embedding).bytes[77] ^= 1; }),
              HasSubstr("\"lm_head.weight\" is not equal to model.embed_tokens.weight"));
  LooseTensors twice = good_;
  twice["lm_head.weight"] = embedding;
  store(folder_ / "x/model.safetensors", twice);
  import_hugging_face(folder_ / "x", folder_ / "back", kMoe);
  EXPECT_EQ(weights_of(folder_ / "back"), weights_of(step_dir_));
}

class ExportedInFiles : public Exported {
 protected:
  ExportedInFiles() : Exported(10000) {}

  /// import_error() with another weight_map.
  template <class Change>
  std::string error_with_map(const Change& change) {
    Json index = Json::parse(index_);
    change(index["weight_map"]);
    folder_.write("x/model.safetensors.index.json", index.dump());
    return import_error();
  }
  const std::string index_ = folder_.read("x/model.safetensors.index.json");
};

TEST_F(ExportedInFiles, WithAnIndexThatIsNotTrueIsRefused) {
  const std::string name = "model.norm.weight";
  for (const char* file : {"../x/model-00001-of-00004.safetensors", "/etc/passwd", "..", ".", ""}) {
    EXPECT_THAT(error_with_map([&](Json& map) { map[name] = file; }),
                HasSubstr("weight_map: tensor \"" + name + "\": expected the name of a file in this folder, got"));
  }
  EXPECT_THAT(error_with_map([&](Json& map) { map[name] = 1; }),
              HasSubstr("expected the name of a file in this folder, got 1"));
  EXPECT_THAT(error_with_map([&](Json& map) { map[name] = "other.safetensors"; }), HasSubstr("other.safetensors"));
  EXPECT_THAT(error_with_map([&](Json& map) { map[name] = map["model.embed_tokens.weight"]; }),
              HasSubstr("there is no tensor \"" + name + "\", which"));
  EXPECT_THAT(error_with_map([&](Json& map) { map.erase(name); }), HasSubstr("is not in model.safetensors.index.json"));
  folder_.write("x/model.safetensors.index.json", "{}");
  EXPECT_THAT(import_error(), HasSubstr("weight_map: expected an object of tensors and their files"));
}

TEST(HuggingFaceFolder, HalfPrecisionIsWidenedExactly) {
  const TempFolder folder;
  const uint16_t f16[] = {0x0000, 0x8000, 0x3c00, 0xbc00, 0x7bff, 0x0001, 0x83ff, 0x0400, 0x7c00, 0xfc00, 0x7e00};
  const float want[] = {0.0f,     -0.0f,    1.0f,      -1.0f, 65504.0f, 0x1p-24f, -1023 * 0x1p-24f,
                        0x1p-14f, INFINITY, -INFINITY, NAN};
  const uint16_t bf16[] = {0x3f80, 0xc049, 0x0001, 0x7f80, 0x8000};
  const float want_bf16[] = {1.0f, -3.140625f, 0x1p-133f, INFINITY, -0.0f};
  store(folder / "model.safetensors",
        {{"half", {"F16", {11}, std::string(reinterpret_cast<const char*>(f16), sizeof f16)}},
         {"brain", {"BF16", {5}, std::string(reinterpret_cast<const char*>(bf16), sizeof bf16)}}});
  const HuggingFaceFolder read(folder / "");
  float got[11], got_bf16[5];
  read.read("half", 0, 4, got);
  read.read("half", 4, 7, got + 4);
  read.read("brain", 0, 5, got_bf16);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(std::memcmp(&got[i], &want[i], 4), 0) << i << ": " << got[i];
  EXPECT_TRUE(std::isnan(got[10]));
  EXPECT_EQ(std::memcmp(got_bf16, want_bf16, sizeof got_bf16), 0);
}

}  // namespace
}  // namespace sluice
