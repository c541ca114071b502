#pragma once

#include <string>

namespace sluice {

/// A lock on a file that processes have one after the other, or share; a dying process gives it back.
class FileLock {
 public:
  enum class Result {
    kTaken,
    kElsewhere,     ///< another process has it
    kNotSupported,  ///< the file system has no locks
  };

  /// Throws Error naming the file when it cannot be opened; it is created when missing.
  explicit FileLock(std::string path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  const std::string& path() const { return path_; }
  /// Does not wait. One that is shared becomes exclusive only when nobody shares it any more; it is lost otherwise.
  Result take();
  /// Does not wait; others may share it.
  Result take_shared();
  /// Why it is not supported.
  const std::string& problem() const { return problem_; }

 private:
  Result lock(int operation);

  const std::string path_;
  const int file_;
  std::string problem_;
};

}  // namespace sluice
