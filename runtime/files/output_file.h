#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/files/block_writer.h"

namespace sluice {

/// Creates the folder that a file is to lie in, if it is missing. Throws Error naming it when that fails.
void create_parent_folder(const std::string& path);

/// Waits until what was created, renamed or removed in a folder is on disk. Throws Error naming it.
void sync_folder(const std::string& folder);

/// A file that appears under its name only when complete: written as PATH.tmp, flushed to disk and renamed by commit().
/// Without commit() the temporary file is removed. Every failure throws Error with the path and the system's reason.
class OutputFile {
 public:
  /// A file of `expected_bytes` or about that many; a long one is written past the page cache where that can be done,
  /// so that it takes neither memory nor time from what the machine is for.
  explicit OutputFile(std::string path, int64_t expected_bytes = 0);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();
  /// CPU time that blocks have taken so far, on threads of their own where there can be some, seconds.
  double blocks_cpu_s() const { return blocks_ ? blocks_->blocks_cpu_s() : 0; }

 private:
  /// From here on the destructor closes and removes what is there.
  OutputFile(std::string path, int descriptor);

  void flush();
  /// Hands bytes to the system.
  void put(const char* data, size_t bytes);

  std::string path_, temporary_;
  int descriptor_;
  std::string waiting_;                  // small writes, until there is enough of them
  std::unique_ptr<BlockWriter> blocks_;  // of a long file
};

}  // namespace sluice
