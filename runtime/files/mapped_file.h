#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice {

/// A whole file, read-only, in memory by mmap. Throws Error naming the file when it cannot be opened. The file must not
/// shrink while it is mapped.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return {data_, size_}; }

 private:
  std::string path_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sluice
