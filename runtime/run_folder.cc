#include "runtime/run_folder.h"

#include <filesystem>

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
