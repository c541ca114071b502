#include "runtime/files/file_lock.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {

FileLock::FileLock(std::string path)
    : path_(std::move(path)), file_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  ENSURE(file_ >= 0, path_, ": cannot open: ", std::strerror(errno));
}

FileLock::~FileLock() { ::close(file_); }

FileLock::Result FileLock::take() {
  // A change from shared to exclusive that fails may or may not have given the lock up.
  ::flock(file_, LOCK_UN);
  return lock(LOCK_EX);
}

FileLock::Result FileLock::take_shared() { return lock(LOCK_SH); }

FileLock::Result FileLock::lock(int operation) {
  int result = 0;
  while ((result = ::flock(file_, operation | LOCK_NB)) != 0 && errno == EINTR) {
  }
  if (result == 0) return Result::kTaken;
  if (errno == EWOULDBLOCK) return Result::kElsewhere;
  problem_ = std::strerror(errno);
  return Result::kNotSupported;
}

}  // namespace sluice
