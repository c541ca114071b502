#include "runtime/convert/hugging_face_folder.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <set>

#include "kernels/core/error.h"
#include "runtime/checkpoint/shard_index.h"
#include "runtime/checkpoint/stored_tensors.h"

namespace sluice {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

float from_bf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

float from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  uint32_t exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
  constexpr uint32_t kBiasDifference = 127 - 15, kInfinite = 0x1f;
  if (exponent == kInfinite) return std::bit_cast<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) {
    // Below 2^-14 without a leading one: mantissa * 2^-24, exact in f32.
    const float size = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -size : size;
  }
  return std::bit_cast<float>(sign | (exponent + kBiasDifference) << 23 | mantissa << 13);
}

}  // namespace

HuggingFaceFolder::HuggingFaceFolder(const std::string& path) : path_(path) {
  std::error_code error;
  if (std::filesystem::exists(path_ + "/" + kSingle, error)) {
    open(kSingle);
    return;
  }
  ENSURE(std::filesystem::exists(path_ + "/" + kIndex, error), path_, ": holds neither ", kSingle, " nor ", kIndex);
  open_indexed(path_ + "/" + kIndex);
}

void HuggingFaceFolder::open(const std::string& name) {
  files_.push_back(std::make_unique<SafetensorsFile>(path_ + "/" + name));
  const SafetensorsFile& file = *files_.back();
  for (const SafetensorsEntry& entry : file.entries()) {
    const auto [place, is_new] = places_.emplace(entry.name, Place{&file, &entry});
    ENSURE(is_new, file.path(), ": tensor \"", entry.name, "\" is in ", place->second.file->path(), " too");
  }
}

void HuggingFaceFolder::open_indexed(const std::string& path) {
  const ShardIndex index = read_shard_index(path);
  for (const std::string& name : index.files()) open(name);
  for (const auto& [tensor, name] : index.weight_map) {
    const auto place = places_.find(tensor);
    ENSURE(place != places_.end() && place->second.file->path() == path_ + "/" + name, path_, "/", name,
           ": there is no tensor \"", tensor, "\", which ", kIndex, " says is there");
  }
  for (const auto& [tensor, place] : places_) {
    ENSURE(index.weight_map.count(tensor), place.file->path(), ": tensor \"", tensor, "\" is not in ", kIndex);
  }
}

void HuggingFaceFolder::check_holds(const std::vector<ForeignTensor>& tensors) const {
  for (const ForeignTensor& tensor : tensors) {
    const auto place = places_.find(tensor.name);
    ENSURE(place != places_.end(), files_.size() == 1 ? files_[0]->path() : path_, ": there is no tensor \"",
           tensor.name, "\"");
    const SafetensorsEntry& entry = *place->second.entry;
    const std::string where = concat(place->second.file->path(), ": tensor \"", tensor.name, "\"");
    ENSURE(entry.shape == tensor.shape, where, " has the shape ", shape_text(entry.shape), ", config.json says ",
           shape_text(tensor.shape));
    ENSURE(entry.dtype == "F32" || entry.dtype == "F16" || entry.dtype == "BF16", where, " is ", entry.dtype,
           "; expected F32, F16 or BF16");
  }
}

void HuggingFaceFolder::check_holds_only(const std::vector<ForeignTensor>& tensors) const {
  std::set<std::string> known;
  for (const ForeignTensor& tensor : tensors) known.insert(tensor.name);
  for (const auto& [name, place] : places_) {
    ENSURE(known.count(name), place.file->path(), ": tensor \"", name, "\" is not part of the model in config.json");
  }
}

void HuggingFaceFolder::read(const std::string& tensor, int64_t first, int64_t count, float* out) const {
  const auto& [file, entry] = places_.at(tensor);
  const int64_t element_bytes = safetensors_element_bytes(entry->dtype);
  if (entry->dtype == "F32") {
    file->read(*entry, first * element_bytes, count * element_bytes, out);
    return;
  }
  std::vector<uint16_t> narrow(static_cast<size_t>(count));
  file->read(*entry, first * element_bytes, count * element_bytes, narrow.data());
  std::transform(narrow.begin(), narrow.end(), out, entry->dtype == "F16" ? from_f16 : from_bf16);
}

}  // namespace sluice
