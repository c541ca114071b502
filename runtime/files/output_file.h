#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace sluice {

/// Creates the folder that a file is to lie in, if it is missing. Throws Error naming it when that fails.
void create_parent_folder(const std::string& path);

/// Waits until what was created, renamed or removed in a folder is on disk. Throws Error naming it.
void sync_folder(const std::string& folder);

/// A file that appears under its name only when complete: written as PATH.tmp, flushed to disk and renamed by commit().
/// Without commit() the temporary file is removed. Every failure throws Error with the path and the system's reason.
class OutputFile {
 public:
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::string path_, temporary_;
  std::FILE* file_;
};

}  // namespace sluice
