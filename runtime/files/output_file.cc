#include "runtime/files/output_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {
void sync_folder(const std::string& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
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

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)), temporary_(path_ + ".tmp"), file_(std::fopen(temporary_.c_str(), "wb")) {
  ENSURE(file_, temporary_, ": cannot write: ", std::strerror(errno));
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      file_(std::exchange(other.file_, nullptr)) {}

OutputFile::~OutputFile() {
  if (!file_) return;
  std::fclose(file_);
  ::unlink(temporary_.c_str());
}

void OutputFile::write(const void* data, size_t bytes) {
  if (bytes == 0) return;
  ENSURE(std::fwrite(data, 1, bytes, file_) == bytes, temporary_, ": cannot write: ", std::strerror(errno));
}

void OutputFile::commit() {
  ENSURE(std::fflush(file_) == 0 && ::fsync(::fileno(file_)) == 0, temporary_,
         ": cannot write: ", std::strerror(errno));
  ENSURE(std::rename(temporary_.c_str(), path_.c_str()) == 0, path_, ": cannot rename: ", std::strerror(errno));
  std::fclose(std::exchange(file_, nullptr));
  // A rename is on disk only once its folder is.
  sync_folder(std::filesystem::path(path_).parent_path().string());
}

}  // namespace sluice
