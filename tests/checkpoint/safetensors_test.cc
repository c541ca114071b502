#include "runtime/checkpoint/safetensors.h"

#include <cstring>

#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string file_with(const std::string& header, size_t data_bytes) {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + std::string(data_bytes, 'x');
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const TempFolder folder;
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<double> b = {7, 8};
  {
    SafetensorsWriter writer(folder / "x.safetensors",
                             {{"b", "F64", {2}, 0, 0}, {"a", "F32", {2, 3}, 0, 0}, {"none", "F32", {0, 4}, 0, 0}});
    writer.write(b.data(), 16);
    writer.write(a.data(), 24);
    writer.commit();
    EXPECT_EQ(hex16(writer.xxh3()), hex16(xxh3(folder.read("x.safetensors"))));
    EXPECT_EQ(writer.file_bytes(), static_cast<int64_t>(folder.read("x.safetensors").size()));
  }
  const SafetensorsFile file(folder / "x.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.find("a").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.find("none").begin, file.find("none").end);
  std::vector<float> read_a(6);
  std::vector<double> read_b(1);
  file.read(file.find("a"), 0, 24, read_a.data());
  file.read(file.find("b"), 8, 8, read_b.data());
  EXPECT_EQ(read_a, a);
  EXPECT_EQ(read_b[0], b[1]);
  EXPECT_THAT(error_of([&] { file.find("c"); }), HasSubstr("there is no tensor \"c\""));
  // What is lost while it is open.
  std::filesystem::resize_file(folder / "x.safetensors", std::filesystem::file_size(folder / "x.safetensors") - 4);
  EXPECT_THAT(error_of([&] { file.read(file.find("a"), 0, 24, read_a.data()); }), HasSubstr("4 bytes are missing"));
}

TEST(Safetensors, AFileThatWasNotCommittedDoesNotAppear) {
  const TempFolder folder;
  { SafetensorsWriter writer(folder / "x.safetensors", {{"a", "F32", {1}, 0, 0}}); }
  EXPECT_FALSE(folder.has("x.safetensors"));
}

TEST(Safetensors, DamagedHeadersAreRefusedByName) {
  const TempFolder folder;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"short", "not a safetensors file"},
      {file_with("{}", 0).substr(0, 9), "header length"},
      {std::string(8, '\xff') + "{}", "header length"},
      {file_with("nonsense", 0), "not a JSON object"},
      {file_with("[1]", 0), "not a JSON object"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8), "begins at 4, expected 0"},
      {file_with(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
           6),
       "begins at 2, expected 4"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5), "the tensors end at 4"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3), "the tensors end at 4"},
      {file_with(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4), "unknown dtype F99"},
      {file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4), "do not hold its shape"},
      {file_with(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0),
       "do not hold its shape"},
      {file_with(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), "shape"},
      {file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4), "data_offsets"},
      {file_with(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), "expected dtype, shape and data_offsets"},
      {file_with(R"({"a":7})", 0), "expected dtype"},
      {file_with(R"({"__metadata__":{"format":1}})", 0), "not a string"}};
  for (const auto& [bytes, text] : cases) {
    const std::string path = folder.write("bad.safetensors", bytes);
    EXPECT_THAT(error_of([&] { SafetensorsFile file(path); }), AllOf(HasSubstr(path), HasSubstr(text)));
  }
}

}  // namespace
}  // namespace sluice
