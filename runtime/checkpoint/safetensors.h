#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/files/mapped_file.h"
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

/// A safetensors file read by mmap. The whole header is checked when it is opened: length, JSON, dtypes, shapes against
/// byte counts, offsets without holes or overlaps that cover the data. Throws Error naming file and field.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// Throws Error naming file and tensor when there is none of this name.
  const SafetensorsEntry& find(const std::string& name) const;
  std::string_view bytes(const SafetensorsEntry& entry) const;
  /// The whole file, for its checksum.
  std::string_view file_bytes() const { return file_.bytes(); }

 private:
  MappedFile file_;
  std::vector<SafetensorsEntry> entries_;  // ordered by name
  std::map<std::string, std::string> metadata_;
  size_t data_begin_ = 0;
};

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
  int64_t file_bytes() const { return written_; }

 private:
  OutputFile file_;
  std::vector<SafetensorsEntry> entries_;
  Xxh3 hash_;
  int64_t written_ = 0, expected_ = 0;
};

/// Bytes of an element of a dtype of the format; 0 for an unknown one.
int64_t safetensors_element_bytes(std::string_view dtype);

}  // namespace sluice
