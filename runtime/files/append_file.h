#pragma once

#include <string>
#include <string_view>

namespace sluice {

/// A file that grows: what was appended is in the kernel's hands when append() returns, so other programs see it and a
/// crash of this one loses nothing. Throws Error naming the file; what could not be written is kept, and the next call
/// writes it first.
class AppendFile {
 public:
  /// Opens or creates the file; what it holds is kept.
  explicit AppendFile(std::string path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  const std::string& path() const { return path_; }
  void append(std::string_view bytes);
  /// Waits until all is on disk.
  void sync();
  /// Waits until what the kernel has is on disk; while another thread appends too.
  void sync_appended() const;

 private:
  std::string path_;
  int file_;
  std::string waiting_;
};

}  // namespace sluice
