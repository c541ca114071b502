#include "runtime/files/append_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include "kernels/core/error.h"

namespace sluice {

AppendFile::AppendFile(std::string path)
    : path_(std::move(path)), file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  ENSURE(file_ >= 0, path_, ": cannot open for writing: ", std::strerror(errno));
}

AppendFile::~AppendFile() { ::close(file_); }

void AppendFile::append(std::string_view bytes) {
  waiting_.append(bytes);
  while (!waiting_.empty()) {
    const ssize_t written = ::write(file_, waiting_.data(), waiting_.size());
    if (written < 0 && errno == EINTR) continue;
    ENSURE(written > 0, path_, ": cannot write: ", std::strerror(errno));
    waiting_.erase(0, static_cast<size_t>(written));
  }
}

void AppendFile::sync() {
  append("");
  sync_appended();
}

void AppendFile::sync_appended() const {
  ENSURE(::fdatasync(file_) == 0, path_, ": cannot write: ", std::strerror(errno));
}

}  // namespace sluice
