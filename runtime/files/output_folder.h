#pragma once

#include <string>
#include <string_view>

namespace sluice {

/// A folder that is filled by one command: what is in it goes again unless the command comes to its end.
class OutputFolder {
 public:
  /// Makes the folder, or takes an empty one. Throws Error when anything is in it or it cannot be made.
  explicit OutputFolder(std::string path);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }
  /// Writes a file of this text. Throws Error naming it.
  void write(std::string_view name, std::string_view text) const;
  /// Everything is there. Throws Error when the folder cannot be brought to disk.
  void keep();

 private:
  std::string path_;
  bool made_ = false, kept_ = false;
};

}  // namespace sluice
