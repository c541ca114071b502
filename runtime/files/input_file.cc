#include "runtime/files/input_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {

InputFile::InputFile(const std::string& path) : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  ENSURE_INTACT(descriptor_ >= 0 || errno != EIO, path, ": cannot open: ", std::strerror(EIO));
  ENSURE(descriptor_ >= 0, path, ": cannot open: ", std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  const int error = errno;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    ENSURE_INTACT(!known && error != EIO, path,
                  ": cannot be read: ", known ? "not a regular file" : std::strerror(EIO));
    ENSURE(false, path, ": cannot be read: ", std::strerror(error));
  }
  size_ = status.st_size;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void InputFile::read(int64_t begin, int64_t count, void* out) const {
  char* to = static_cast<char*>(out);
  while (count > 0) {
    const ssize_t got = ::pread(descriptor_, to, static_cast<size_t>(count), begin);
    if (got < 0 && errno == EINTR) continue;
    ENSURE_INTACT(got >= 0 || errno != EIO, path_, ": cannot be read from byte ", begin, " on: ", std::strerror(EIO));
    ENSURE(got >= 0, path_, ": cannot be read: ", std::strerror(errno));
    ENSURE_INTACT(got > 0, path_, ": ends at byte ", begin, ", ", count, " bytes are missing");
    to += got, begin += got, count -= got;
  }
}

std::string read_text(const std::string& path) {
  const InputFile file(path);
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.read(0, file.size(), text.data());
  return text;
}

}  // namespace sluice
