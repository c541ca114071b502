#include "runtime/checkpoint/shard_index.h"

#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(ShardIndex, TellsWhichFileHoldsATensor) {
  const TempFolder folder;
  const ShardIndex index = read_shard_index(folder.write("model.safetensors.index.json", R"({
    "metadata": {"total_size": 12},
    "weight_map": {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors",
                   "c": "model-00001-of-00002.safetensors"}})"));
  EXPECT_EQ(index.weight_map.at("b"), "model-00002-of-00002.safetensors");
  EXPECT_THAT(index.files(), ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
}

TEST(ShardIndex, WhatIsNotAMapToPlainFileNamesIsRefused) {
  const TempFolder folder;
  const std::pair<const char*, const char*> cases[] = {
      {"nonsense", "not a JSON object"},
      {"[]", "not a JSON object"},
      {"{}", "weight_map: expected an object"},
      {R"({"weight_map": ["a"]})", "weight_map: expected an object"},
      {R"({"weight_map": {}})", "names no tensor"},
      {R"({"weight_map": {"a": 7}})", "tensor \"a\": expected the name of a file in this folder, got 7"},
      {R"({"weight_map": {"a": ""}})", "expected the name of a file"},
      {R"({"weight_map": {"a": ".."}})", "expected the name of a file"},
      {R"({"weight_map": {"a": "../model.safetensors"}})", "expected the name of a file"},
      {R"({"weight_map": {"a": "/etc/passwd"}})", "expected the name of a file"},
      {R"({"weight_map": {"a": "b\u0000c"}})", "expected the name of a file"}};
  for (const auto& [text, message] : cases) {
    const std::string path = folder.write("bad.index.json", text);
    EXPECT_THAT(error_of([&] { read_shard_index(path); }), AllOf(HasSubstr(path), HasSubstr(message))) << text;
  }
}

}  // namespace
}  // namespace sluice
