#pragma once

#include <functional>
#include <optional>
#include <string>

#include "configs/train.pb.h"
#include "parallel/process_group.h"
#include "runtime/files/file_lock.h"

namespace sluice {

/// Creates the folder of a run and that of its checkpoints where they are missing. Throws Error naming --run.
void create_run_folder(const std::string& run_dir);

/// Throws AgreedError naming --run unless all ranks can write into the folder of its checkpoints, see the same files
/// there, and it has room for those that will be there at a time: the newest checkpoint.keep and one being written, of
/// the steps after `steps_behind`. Every rank of the world calls it with the bytes of its shard. Returns how long
/// writing them is likely to take, in seconds, the same on every rank.
double probe_checkpoints(const std::string& run_dir, const TrainConfig& config, int64_t steps_behind,
                         int64_t shard_bytes, ProcessGroup& world);

/// That no other job trains in a folder, as long as this lives: a lock on RUN/lock, which a dying process gives back.
class RunLock {
 public:
  /// Throws Error naming the file when it cannot be opened.
  explicit RunLock(const std::string& run_dir) : lock_(run_dir + "/lock") {}

  /// Tries for so many seconds at most, once at least. False: another job has it. On a file system without locks it
  /// warns and returns true.
  bool take(double wait_s);
  /// Whether it was taken, by this job.
  bool held() const { return held_; }

 private:
  FileLock lock_;
  bool held_ = false;
};

/// Takes the lock of a run's folder, and waits for the end of a job that had it before; every rank of the world calls
/// it, rank 0 with the lock. Calls `meanwhile` several times a second, which may throw on every rank. Throws
/// AgreedError naming --run when the other job goes on.
void wait_for_lock(RunLock* lock, const std::string& run_dir, ProcessGroup& world,
                   const std::function<void()>& meanwhile);

/// Writes config.textproto, which appears when it is complete. Throws Error naming it.
void keep_config(const std::string& run_dir, const TrainConfig& config);

/// `path`, or where that is taken `path`_2, _3 and so on.
std::string free_path(const std::string& path);

/// Keeps what a run has logged as metrics.jsonl.replaced (or free_path of it) before it starts over. Throws Error.
void set_metrics_aside(const std::string& run_dir);

/// Looks whether a folder without a checkpoint holds what a run has logged, and why that starts over, changes of the
/// configuration included; nothing: the folder is new. Throws Error when it was another run.
std::optional<std::string> restart_reason(const std::string& run_dir, const TrainConfig& config);

}  // namespace sluice
