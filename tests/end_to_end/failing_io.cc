// To be preloaded into a program: lets one system call fail that works on files whose path contains FAILING_IO_PATH.
//   FAILING_IO_AT     which of those calls, from 1 on; 0: none
//   FAILING_IO_MODE   error: no space is left, or the disk fails; full: the same from that call on, but looking and
//                     closing, which need no space
//                     short: half is written, then no more
//                     kill: the program is gone, of a write after half of it
//                     slow: every fdatasync takes a third of a second
//                     cached: writes to files that were opened with O_DIRECT are refused
//   FAILING_IO_LOG    file that gets a line a call, and at the end one for every file that is still open
//   FAILING_IO_RANK   the MPI rank that this is for; default: all
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <climits>

namespace {

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

std::string path_of(int file) {
  char path[PATH_MAX];
  const ssize_t bytes = ::readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), path, sizeof path);
  return bytes < 0 ? "" : std::string(path, static_cast<size_t>(bytes));
}

std::string path_in(int folder, const std::string& path) {
  return folder == AT_FDCWD || path.starts_with("/") ? path : path_of(folder) + "/" + path;
}

class Failures {
 public:
  /// Whether the call is to go on; it is one that writes if `bytes` is more than 0, which may become fewer.
  bool passes(const char* call, const std::string& path, size_t* bytes = nullptr) {
    if (!concerns(path)) return true;
    const int index = ++calls_;
    log(index, call, path);
    if (mode_ == "slow" && std::string_view(call) == "fdatasync") ::usleep(333333);
    const bool now = index == at_, from_now = mode_ == "full" && at_ > 0 && index >= at_;
    if (!now && !from_now) return true;
    if (mode_ == "short") {
      if (bytes && *bytes > 1) *bytes /= 2;
      return true;
    }
    if (mode_ == "kill") {
      if (!bytes || *bytes < 2) std::raise(SIGKILL);
      *bytes /= 2;
      dies_ = true;
      return true;
    }
    errno = bytes || mode_ == "full" ? ENOSPC : EIO;
    return false;
  }
  /// The same for a call that needs no space.
  bool looks(const char* call, const std::string& path) {
    if (!concerns(path)) return true;
    const int index = ++calls_;
    log(index, call, path);
    if (index != at_ || mode_ == "short") return true;
    if (mode_ == "kill") std::raise(SIGKILL);
    errno = EIO;
    return false;
  }
  /// Whether a write goes past the page cache though it must not.
  bool refuses_direct(int file) const {
    return mode_ == "cached" && concerns(path_of(file)) && (::fcntl(file, F_GETFL) & O_DIRECT) != 0;
  }
  void log_leaks() const {
    if (log_.empty() || !active_) return;
    for (int file = 0; file < 1024; ++file) {
      const std::string path = path_of(file);
      if (concerns(path)) log(0, "leak", path);
    }
  }
  /// After a write that passed.
  void die_if_due() const {
    if (dies_) std::raise(SIGKILL);
  }

 private:
  bool concerns(const std::string& path) const { return active_ && path.find(path_) != std::string::npos; }
  void log(int index, const char* call, const std::string& path) const {
    if (log_.empty()) return;
    const std::string line = std::to_string(index) + " " + call + " " + path + "\n";
    const int file = next<int(const char*, int, ...)>("open")(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
    [[maybe_unused]] const ssize_t written =
        next<ssize_t(int, const void*, size_t)>("write")(file, line.data(), line.size());
    next<int(int)>("close")(file);
  }

  const std::string path_ = setting("FAILING_IO_PATH"), mode_ = setting("FAILING_IO_MODE"),
                    log_ = setting("FAILING_IO_LOG");
  const int at_ = std::atoi(setting("FAILING_IO_AT").c_str());
  const bool active_ = !path_.empty() && (setting("FAILING_IO_RANK").empty() ||
                                          setting("FAILING_IO_RANK") == setting("OMPI_COMM_WORLD_RANK"));
  std::atomic<int> calls_{0};
  std::atomic<bool> dies_{false};
};

/// Made by the first call, which may come before this file's own variables are; there until after the last.
Failures& failures() {
  static Failures& instance = *new Failures;
  return instance;
}

int open_with(const char* name, const char* path, int flags, mode_t mode) {
  return failures().passes(name, path) ? next<int(const char*, int, ...)>(name)(path, flags, mode) : -1;
}

mode_t mode_of(int flags, va_list arguments) { return flags & O_CREAT ? va_arg(arguments, mode_t) : 0; }

template <class... Arguments>
int call_on_path(const char* name, const char* path, Arguments... rest) {
  return failures().passes(name, path) ? next<int(const char*, Arguments...)>(name)(path, rest...) : -1;
}

}  // namespace

__attribute__((destructor)) static void end() { failures().log_leaks(); }

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_with("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_with("open64", path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  if (!failures().passes("openat", path_in(folder, path))) return -1;
  return next<int(int, const char*, int, ...)>("openat")(folder, path, flags, mode);
}

ssize_t write(int file, const void* data, size_t bytes) {
  if (!failures().passes("write", path_of(file), &bytes)) return -1;
  const ssize_t written = next<ssize_t(int, const void*, size_t)>("write")(file, data, bytes);
  failures().die_if_due();
  return written;
}

ssize_t pwrite(int file, const void* data, size_t bytes, off_t place) {
  if (failures().refuses_direct(file)) {
    errno = EINVAL;
    return -1;
  }
  if (!failures().passes("pwrite", path_of(file), &bytes)) return -1;
  const ssize_t written = next<ssize_t(int, const void*, size_t, off_t)>("pwrite")(file, data, bytes, place);
  failures().die_if_due();
  return written;
}

int fallocate(int file, int mode, off_t begin, off_t bytes) {
  if (!failures().passes("fallocate", path_of(file))) return -1;
  return next<int(int, int, off_t, off_t)>("fallocate")(file, mode, begin, bytes);
}

int close(int file) {
  const bool passes = failures().looks("close", path_of(file));
  const int result = next<int(int)>("close")(file);
  if (!passes) errno = EIO;
  return passes ? result : -1;
}

int stat(const char* path, struct stat* out) noexcept {
  return failures().looks("stat", path) ? next<int(const char*, struct stat*)>("stat")(path, out) : -1;
}
int lstat(const char* path, struct stat* out) noexcept {
  return failures().looks("lstat", path) ? next<int(const char*, struct stat*)>("lstat")(path, out) : -1;
}
int fstat(int file, struct stat* out) noexcept {
  return failures().looks("fstat", path_of(file)) ? next<int(int, struct stat*)>("fstat")(file, out) : -1;
}
int statvfs(const char* path, struct statvfs* out) noexcept {
  return failures().looks("statvfs", path) ? next<int(const char*, struct statvfs*)>("statvfs")(path, out) : -1;
}
dirent* readdir(DIR* folder) {
  return failures().looks("readdir", path_of(dirfd(folder))) ? next<dirent*(DIR*)>("readdir")(folder) : nullptr;
}

int fdatasync(int file) {
  return failures().passes("fdatasync", path_of(file)) ? next<int(int)>("fdatasync")(file) : -1;
}
int fsync(int file) { return failures().passes("fsync", path_of(file)) ? next<int(int)>("fsync")(file) : -1; }
int ftruncate(int file, off_t bytes) noexcept {
  return failures().passes("ftruncate", path_of(file)) ? next<int(int, off_t)>("ftruncate")(file, bytes) : -1;
}
int rename(const char* from, const char* to) noexcept { return call_on_path("rename", from, to); }
int mkdir(const char* path, mode_t mode) noexcept { return call_on_path("mkdir", path, mode); }
int unlink(const char* path) noexcept { return call_on_path("unlink", path); }
int remove(const char* path) noexcept { return call_on_path("remove", path); }
int rmdir(const char* path) noexcept { return call_on_path("rmdir", path); }

int unlinkat(int folder, const char* path, int flags) noexcept {
  if (!failures().passes("unlinkat", path_in(folder, path))) return -1;
  return next<int(int, const char*, int)>("unlinkat")(folder, path, flags);
}
}
