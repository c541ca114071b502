#pragma once

#include <cstdint>
#include <string>

namespace sluice {

/// A file that is read by position, and may change or shrink meanwhile without harm. Throws Error naming the file when
/// it cannot be opened.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;

  const std::string& path() const { return path_; }
  /// Bytes, when it was opened.
  int64_t size() const { return size_; }
  /// Copies bytes [begin, begin + count). Throws Error, Fault::kDamage when they are not there or the disk has lost
  /// them.
  void read(int64_t begin, int64_t count, void* out) const;

 private:
  std::string path_;
  int descriptor_;
  int64_t size_ = 0;
};

/// All bytes of a file. Throws what InputFile does.
std::string read_text(const std::string& path);

}  // namespace sluice
