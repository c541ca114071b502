#include "runtime/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/files/json_depth.h"

namespace sluice {
namespace {

constexpr uint64_t kLargestHeader = 100'000'000;
constexpr int64_t kLengthBytes = 8;

/// The header with its length in front.
std::string read_header(const InputFile& file) {
  ENSURE_INTACT(file.size() >= kLengthBytes, file.path(), ": not a safetensors file, it has ", file.size(), " bytes");
  std::string header(kLengthBytes, '\0');
  file.read(0, kLengthBytes, header.data());
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(header[i]);
  ENSURE_INTACT(length <= kLargestHeader && length <= static_cast<uint64_t>(file.size() - kLengthBytes), file.path(),
                ": header length ", length, " does not fit a file of ", file.size(), " bytes");
  header.resize(kLengthBytes + length);
  file.read(kLengthBytes, static_cast<int64_t>(length), header.data() + kLengthBytes);
  return header;
}

/// shape[0] * shape[1] * ... * element bytes; -1 when it is not representable.
int64_t tensor_bytes(const std::vector<int64_t>& shape, int64_t element_bytes) {
  int64_t bytes = element_bytes;
  for (int64_t dim : shape) {
    if (dim < 0 || __builtin_mul_overflow(bytes, dim, &bytes)) return -1;
  }
  return bytes;
}

int64_t whole_number(const nlohmann::json& value, const std::string& where) {
  ENSURE_INTACT(value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX), where,
                ": expected a whole number, got ", value.dump());
  return value.get<int64_t>();
}

SafetensorsEntry parse_entry(const std::string& path, const std::string& name, const nlohmann::json& json) {
  const std::string where = path + ": tensor \"" + name + "\"";
  ENSURE_INTACT(json.is_object() && json.contains("dtype") && json.contains("shape") && json.contains("data_offsets"),
                where, ": expected dtype, shape and data_offsets");
  ENSURE_INTACT(json["dtype"].is_string() && json["shape"].is_array(), where, ": dtype or shape has the wrong type");
  const nlohmann::json& offsets = json["data_offsets"];
  ENSURE_INTACT(offsets.is_array() && offsets.size() == 2, where, ": data_offsets must be two numbers");
  SafetensorsEntry entry;
  entry.name = name;
  entry.dtype = json["dtype"].get<std::string>();
  for (const nlohmann::json& dim : json["shape"]) entry.shape.push_back(whole_number(dim, where + ": shape"));
  entry.begin = whole_number(offsets[0], where + ": data_offsets");
  entry.end = whole_number(offsets[1], where + ": data_offsets");
  const int64_t element_bytes = safetensors_element_bytes(entry.dtype);
  ENSURE_INTACT(element_bytes > 0, where, ": unknown dtype ", entry.dtype);
  const int64_t bytes = tensor_bytes(entry.shape, element_bytes);
  ENSURE_INTACT(bytes >= 0 && entry.end >= entry.begin && entry.end - entry.begin == bytes, where, ": data_offsets [",
                entry.begin, ", ", entry.end, ") do not hold its shape, which needs ", bytes, " bytes");
  return entry;
}

/// The tensors must fill the data without holes or overlaps.
void check_coverage(std::vector<SafetensorsEntry> entries, int64_t data_bytes, const std::string& path) {
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t at = 0;
  for (const SafetensorsEntry& entry : entries) {
    ENSURE_INTACT(entry.begin == at, path, ": tensor \"", entry.name, "\" begins at ", entry.begin, ", expected ", at);
    at = entry.end;
  }
  ENSURE_INTACT(at == data_bytes, path, ": the tensors end at ", at, ", the file holds ", data_bytes, " bytes of data");
}

}  // namespace

int64_t safetensors_element_bytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, int64_t> kBytes[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},  {"I32", 4},     {"I16", 2},    {"I8", 1},
      {"U64", 8}, {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, bytes] : kBytes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  const std::string bytes = read_header(file_);
  header_xxh3_ = sluice::xxh3(bytes);
  data_begin_ = static_cast<int64_t>(bytes.size());
  const nlohmann::json header =
      nlohmann::json::parse(std::string_view(bytes).substr(kLengthBytes), depth_limit(path), false);
  ENSURE_INTACT(header.is_object(), path, ": the header is not a JSON object");
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      ENSURE_INTACT(value.is_object(), path, ": __metadata__ is not an object");
      for (const auto& [key, text] : value.items()) {
        ENSURE_INTACT(text.is_string(), path, ": __metadata__ \"", key, "\" is not a string");
        metadata_[key] = text.get<std::string>();
      }
    } else {
      entries_.push_back(parse_entry(path, name, value));
    }
  }
  check_coverage(entries_, file_.size() - data_begin_, path);
}

const SafetensorsEntry& SafetensorsFile::find(const std::string& name) const {
  const auto at = std::lower_bound(entries_.begin(), entries_.end(), name,
                                   [](const SafetensorsEntry& entry, const std::string& n) { return entry.name < n; });
  ENSURE_INTACT(at != entries_.end() && at->name == name, path(), ": there is no tensor \"", name, "\"");
  return *at;
}

void SafetensorsFile::read(const SafetensorsEntry& entry, int64_t begin, int64_t count, void* out) const {
  INVARIANT(begin >= 0 && count >= 0 && count <= entry.end - entry.begin - begin, path(), ": tensor ", entry.name,
            " has no bytes [", begin, ", +", count, ")");
  file_.read(data_begin_ + entry.begin + begin, count, out);
}

std::string lay_out_safetensors(std::vector<SafetensorsEntry>& entries) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  int64_t end = 0;
  for (SafetensorsEntry& entry : entries) {
    const int64_t bytes = tensor_bytes(entry.shape, safetensors_element_bytes(entry.dtype));
    INVARIANT(bytes >= 0, "tensor ", entry.name, " has dtype ", entry.dtype, " or a shape that is too large");
    entry.begin = end;
    entry.end = end += bytes;
    header[entry.name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(kLengthBytes, '\0');
  for (size_t i = 0; i < kLengthBytes; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));
  return length + text;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, std::vector<SafetensorsEntry> entries)
    : entries_(std::move(entries)) {
  const std::string header = lay_out_safetensors(entries_);
  header_xxh3_ = sluice::xxh3(header);
  expected_ = static_cast<int64_t>(header.size()) + (entries_.empty() ? 0 : entries_.back().end);
  file_.emplace(path, expected_);
  write(header.data(), header.size());
}

void SafetensorsWriter::write(const void* data, size_t bytes) {
  file_->write(data, bytes);
  hash_.add(data, bytes);
  written_ += static_cast<int64_t>(bytes);
}

void SafetensorsWriter::commit() {
  INVARIANT(written_ == expected_, "a shard of ", expected_, " bytes was given ", written_);
  file_->commit();
}

}  // namespace sluice
