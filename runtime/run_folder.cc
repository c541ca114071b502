#include "runtime/run_folder.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <thread>
#include <unistd.h>

#include <glog/logging.h>

#include "kernels/core/error.h"
#include "runtime/config.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"
#include "runtime/same_run.h"

namespace sluice {

void create_run_folder(const std::string& run_dir) {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  ENSURE(!error, "--run ", run_dir, ": cannot be created: ", error.message());
  std::filesystem::create_directories(run_dir + "/checkpoints", error);
  ENSURE(!error, "--run ", run_dir, ": checkpoints/ cannot be created: ", error.message());
}

RunLock::RunLock(const std::string& run_dir, double wait_s) {
  const std::string path = run_dir + "/lock";
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  ENSURE(file_ >= 0, path, ": cannot open: ", std::strerror(errno));
  constexpr std::chrono::milliseconds kPause(100);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(wait_s);
  while (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) {
      LOG(WARNING) << path << ": cannot be locked: " << std::strerror(errno) << "; take care that one job uses it";
      return;
    }
    if (std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    ::close(file_);
    ENSURE(false, "--run ", run_dir, ": another job is training there; wait for its end or choose another folder");
  }
}

RunLock::~RunLock() { ::close(file_); }

void keep_config(const std::string& run_dir, const TrainConfig& config) {
  OutputFile file(run_dir + "/config.textproto");
  file.write(config_text(config));
  file.commit();
}

std::string free_path(const std::string& path) {
  std::string free = path;
  std::error_code error;
  for (int i = 2; std::filesystem::exists(free, error); ++i) free = concat(path, "_", i);
  return free;
}

void set_metrics_aside(const std::string& run_dir) {
  const std::string metrics = run_dir + "/metrics.jsonl", aside = free_path(metrics + ".replaced");
  std::error_code error;
  std::filesystem::rename(metrics, aside, error);
  ENSURE(!error, metrics, ": cannot be renamed to ", aside, ": ", error.message());
}

std::optional<std::string> restart_reason(const std::string& run_dir, const TrainConfig& config) {
  const std::string kept = run_dir + "/config.textproto";
  std::error_code error;
  if (!std::filesystem::exists(run_dir + "/metrics.jsonl", error)) return std::nullopt;
  const TrainConfig run = parse_config(std::string(MappedFile(kept).bytes()), kept);
  const std::string changes = check_same_run(run, config, kept);
  return "the run has no checkpoint" + (changes.empty() ? "" : "; " + changes);
}

}  // namespace sluice
