#include "runtime/files/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ENSURE(file >= 0, path, ": cannot open: ", std::strerror(errno));
  struct stat status {};
  void* data = nullptr;
  bool ok = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  if (ok && status.st_size > 0) {
    data = ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, file, 0);
    ok = data != MAP_FAILED;
  }
  const int error = errno;
  ::close(file);
  ENSURE(ok, path, ": cannot map: ", S_ISREG(status.st_mode) ? std::strerror(error) : "not a regular file");
  data_ = static_cast<const char*>(data);
  size_ = static_cast<size_t>(status.st_size);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<char*>(data_), size_);
}

}  // namespace sluice
