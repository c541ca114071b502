#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/files/input_file.h"
#include "runtime/files/output_file.h"
#include "runtime/files/xxh3.h"

namespace sluice {

/// One tensor of a safetensors file.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  ///< F32, F64, I32, ... as the format writes it
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  ///< bytes, from the end of the header
};

/// A safetensors file. The whole header is checked when it is opened: length, JSON, dtypes, shapes against
/// byte counts, offsets without holes or overlaps that cover the data. Throws Error naming file and field, of
/// Fault::kDamage where the file is to blame.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Throws Error naming file and tensor when there is none of this name.
  const SafetensorsEntry& find(const std::string& name) const;
  /// Copies bytes [begin, begin + count) of a tensor.
  void read(const SafetensorsEntry& entry, int64_t begin, int64_t count, void* out) const;
  /// Of the header, its length included.
  uint64_t header_xxh3() const { return header_xxh3_; }

 private:
  InputFile file_;
  std::vector<SafetensorsEntry> entries_;  // ordered by name
  std::map<std::string, std::string> metadata_;
  int64_t data_begin_ = 0;
  uint64_t header_xxh3_ = 0;
};

/// Gives entries with name, dtype and shape their places, in order, and returns the header with its length in front.
std::string lay_out_safetensors(std::vector<SafetensorsEntry>& entries);

/// Writes a safetensors file: the header first, then each tensor's bytes in the order of the entries.
class SafetensorsWriter {
 public:
  /// `entries` need name, dtype and shape; their offsets are filled in, in order. Throws Error on an unknown dtype.
  SafetensorsWriter(const std::string& path, std::vector<SafetensorsEntry> entries);

  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  /// The next bytes of the data.
  void write(const void* data, size_t bytes);
  /// Flushes to disk and gives the file its name; every byte must have been written.
  void commit();
  /// Of the whole file, header included; valid once all is written.
  uint64_t xxh3() const { return hash_.digest(); }
  /// Of the header, its length included.
  uint64_t header_xxh3() const { return header_xxh3_; }
  int64_t file_bytes() const { return written_; }
  /// CPU time that writing has taken so far by its blocks, seconds.
  double blocks_cpu_s() const { return file_->blocks_cpu_s(); }

 private:
  std::vector<SafetensorsEntry> entries_;
  std::optional<OutputFile> file_;
  Xxh3 hash_;
  uint64_t header_xxh3_ = 0;
  int64_t written_ = 0, expected_ = 0;
};

/// Bytes of an element of a dtype of the format; 0 for an unknown one.
int64_t safetensors_element_bytes(std::string_view dtype);

}  // namespace sluice
