#include "runtime/run_folder.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>
#include <glog/logging.h>

#include "parallel/agree.h"
#include "runtime/config.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/output_file.h"
#include "runtime/same_run.h"
#include "runtime/step_folders.h"

namespace sluice {

void create_run_folder(const std::string& run_dir) {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  ENSURE(!error, "--run ", run_dir, ": cannot be created: ", error.message());
  std::filesystem::create_directories(run_dir + "/checkpoints", error);
  ENSURE(!error, "--run ", run_dir, ": checkpoints/ cannot be created: ", error.message());
  const std::filesystem::path folder = std::filesystem::absolute(run_dir + "/.").lexically_normal().parent_path();
  for (const auto& each : {folder.parent_path(), folder}) sync_folder(each.string());
}

namespace {

using Clock = std::chrono::steady_clock;

/// Calls `body` until it is true, for so long; whether it was.
template <class Body>
bool within(double seconds, const Body& body) {
  constexpr std::chrono::milliseconds kPause(100);
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (!body()) {
    if (Clock::now() >= end) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

/// Checkpoints that the rest of a run has in its folder at a time, but those that are kept for good.
int64_t checkpoints_at_a_time(const TrainConfig& config, int64_t steps_behind) {
  const int64_t every = config.checkpoint().every(), steps = config.training().steps();
  const int64_t saves = every == 0 ? 1 : steps / every - steps_behind / every + (steps % every ? 1 : 0);
  return std::min(saves - 1, config.checkpoint().keep()) + 1;
}

/// Of the newest `count` checkpoints in a folder.
int64_t bytes_in_checkpoints(const std::string& run_dir, int64_t count) {
  int64_t bytes = 0;
  std::vector<int64_t> steps = checkpoint_steps(run_dir);
  if (static_cast<int64_t>(steps.size()) > count) steps.erase(steps.begin(), steps.end() - count);
  for (int64_t step : steps) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(step_folder(run_dir, step), error)) {
      const auto size = entry.file_size(error);
      if (!error) bytes += static_cast<int64_t>(size);
    }
  }
  return bytes;
}

void check_room(const std::string& run_dir, int64_t checkpoints, int64_t keep, int64_t bytes) {
  std::error_code error;
  const auto space = std::filesystem::space(run_dir + "/checkpoints", error);
  if (error) return;
  // Of those that are to be there at a time some are already, but the next needs room before one of them goes.
  const double needed = static_cast<double>(bytes) * static_cast<double>(checkpoints) -
                        static_cast<double>(bytes_in_checkpoints(run_dir, keep));
  const double megabytes = std::max(needed, static_cast<double>(bytes)) * 1e-6;
  const double free_megabytes = static_cast<double>(space.available) * 1e-6;
  ENSURE(free_megabytes >= megabytes, "--run ", run_dir, ": ", fmt::format("{:.0f}", free_megabytes),
         " MB are free, but checkpoints need ", fmt::format("{:.0f}", megabytes), " MB, ", checkpoints,
         " at a time of ", fmt::format("{:.0f}", static_cast<double>(bytes) * 1e-6),
         " MB each; choose another --run, a smaller checkpoint.keep or make room");
}

/// How long this rank takes to write its shard: as long for each byte as for those of a small file, which it removes.
double writing_time_s(const std::string& file, int64_t shard_bytes) {
  constexpr int64_t kProbeBytes = int64_t{4} << 20;
  // Blocks of one byte would be none on some file systems.
  std::string bytes(static_cast<size_t>(std::clamp(shard_bytes, int64_t{1}, kProbeBytes)), '\0');
  std::minstd_rand random;
  for (char& byte : bytes) byte = static_cast<char>(random());
  const Clock::time_point start = Clock::now();
  OutputFile probe(file);
  probe.write(bytes);
  probe.commit();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  ::unlink(file.c_str());
  return seconds * static_cast<double>(std::max(shard_bytes, int64_t{1})) / static_cast<double>(bytes.size());
}

}  // namespace

double probe_checkpoints(const std::string& run_dir, const TrainConfig& config, int64_t steps_behind,
                         int64_t shard_bytes, ProcessGroup& world) {
  int64_t bytes = shard_bytes;
  world.all_reduce({&bytes, DType::kI64, Device::kCpu, {1}}, ReduceOp::kSum).wait();
  const std::string path = run_dir + "/checkpoints/probe";
  const std::string job = broadcast_string(world, concat(::getpid(), " ", Clock::now().time_since_epoch().count()));
  agree(world, [&] {
    if (world.rank() != 0) return;
    check_room(run_dir, checkpoints_at_a_time(config, steps_behind), config.checkpoint().keep(), bytes);
    OutputFile probe(path);
    probe.write(job);
    probe.commit();
  });
  double writing_s = 0;
  const std::string problem = agreed_failure(world, Fault::kUser, [&] {
    // A file server may tell others of a new file only after some time.
    constexpr double kPatience_s = 5;
    const bool seen = within(kPatience_s, [&] {
      std::error_code error;
      return std::filesystem::exists(path, error) && MappedFile(path).bytes() == job;
    });
    ENSURE(seen, "--run ", run_dir, ": rank ", world.rank(),
           " does not see there what rank 0 writes; it must lie where all ranks see the same files");
    writing_s = writing_time_s(concat(path, ".", world.rank()), shard_bytes);
  });
  if (world.rank() == 0) ::unlink(path.c_str());
  if (!problem.empty()) throw AgreedError(world.rank() == 0 ? problem : "", Fault::kUser);
  world.all_reduce({&writing_s, DType::kF64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  return writing_s;
}

bool RunLock::take(double wait_s) {
  FileLock::Result result{};
  held_ = within(wait_s, [&] {
    result = lock_.take();
    return result != FileLock::Result::kElsewhere;
  });
  if (result == FileLock::Result::kNotSupported) {
    LOG(WARNING) << lock_.path() << ": cannot be locked: " << lock_.problem() << "; take care that one job uses it";
  }
  return held_;
}

void wait_for_lock(RunLock* lock, const std::string& run_dir, ProcessGroup& world,
                   const std::function<void()>& meanwhile) {
  constexpr double kPatience_s = 10, kTry_s = 0.2;
  int64_t locked = 0;
  for (double waited_s = 0; !locked && waited_s < kPatience_s; waited_s += kTry_s) {
    if (lock) locked = lock->take(kTry_s);
    world.broadcast({&locked, DType::kI64, Device::kCpu, {1}}, 0).wait();
    if (!locked) meanwhile();
  }
  agree(world, [&] {
    ENSURE(locked, "--run ", run_dir, ": another job is training there; wait for its end or choose another folder");
  });
}

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
  // Without a checkpoint nothing else tells data apart.
  for (int i = 0; i < run.data().train_size(); ++i) {
    ENSURE(run.data().train(i).prefix() == config.data().train(i).prefix(), kept,
           " is of another run; choose another folder, or undo what was changed: data.train[", i, "].prefix from ",
           run.data().train(i).prefix(), " to ", config.data().train(i).prefix());
  }
  return "the run has no checkpoint" + (changes.empty() ? "" : "; " + changes);
}

}  // namespace sluice
