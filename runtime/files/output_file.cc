#include "runtime/files/output_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {
namespace {

/// A file that is worth blocks.
constexpr int64_t kLong = int64_t{1} << 20;

/// A long one past the page cache. Throws Error.
int open_for_writing(const std::string& path, bool is_long) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
  int descriptor = is_long ? ::open(path.c_str(), kFlags | O_DIRECT, 0666) : -1;
  // Not every file system can do without the cache.
  if (!is_long || (descriptor < 0 && errno == EINVAL)) descriptor = ::open(path.c_str(), kFlags, 0666);
  ENSURE(descriptor >= 0, path, ": cannot write: ", std::strerror(errno));
  return descriptor;
}

}  // namespace

void sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ENSURE(descriptor >= 0, folder, ": cannot open: ", std::strerror(errno));
  const int synced = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  ENSURE(synced == 0, folder, ": cannot write: ", std::strerror(error));
}

void create_parent_folder(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  ENSURE(!error, folder.string(), ": cannot be created: ", error.message());
}

OutputFile::OutputFile(std::string path, int descriptor)
    : path_(std::move(path)), temporary_(path_ + ".tmp"), descriptor_(descriptor) {}

OutputFile::OutputFile(std::string path, int64_t expected_bytes)
    : OutputFile(path, open_for_writing(path + ".tmp", expected_bytes >= kLong)) {
  if (expected_bytes >= kLong) blocks_ = std::make_unique<BlockWriter>(descriptor_, temporary_, expected_bytes);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      waiting_(std::move(other.waiting_)),
      blocks_(std::move(other.blocks_)) {}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  blocks_.reset();
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, size_t bytes) {
  constexpr size_t kEnough = size_t{1} << 18;
  const char* from = static_cast<const char*>(data);
  if (blocks_) return blocks_->add(from, bytes);
  if (waiting_.size() + bytes > kEnough) flush();
  if (bytes > kEnough)
    put(from, bytes);
  else
    waiting_.append(from, bytes);
}

void OutputFile::flush() {
  put(waiting_.data(), waiting_.size());
  waiting_.clear();
}

void OutputFile::put(const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, data, bytes);
    if (written < 0 && errno == EINTR) continue;
    ENSURE(written > 0, temporary_, ": cannot write: ", std::strerror(errno));
    data += written, bytes -= static_cast<size_t>(written);
  }
}

void OutputFile::commit() {
  if (blocks_)
    blocks_->finish();
  else
    flush();
  ENSURE(::fsync(descriptor_) == 0, temporary_, ": cannot write: ", std::strerror(errno));
  ENSURE(std::rename(temporary_.c_str(), path_.c_str()) == 0, path_, ": cannot rename: ", std::strerror(errno));
  ::close(std::exchange(descriptor_, -1));
  // A rename is on disk only once its folder is.
  sync_folder(std::filesystem::path(path_).parent_path().string());
}

}  // namespace sluice
