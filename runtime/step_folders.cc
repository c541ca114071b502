#include "runtime/step_folders.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include <glog/logging.h>

#include "kernels/core/error.h"
#include "runtime/files/output_file.h"

namespace sluice {

std::string step_folder(const std::string& run_dir, int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step_%08lld", static_cast<long long>(step));
  return run_dir + "/checkpoints/" + name;
}

namespace {

/// Whether a file is there. Throws Error when that cannot be told: what is not seen is not yet gone.
bool is_there(const std::string& path) {
  std::error_code error;
  const bool there = std::filesystem::exists(path, error);
  ENSURE(!error, path, ": cannot be looked at: ", error.message());
  return there;
}

bool has_manifest(const std::string& run_dir, int64_t step) {
  return is_there(step_folder(run_dir, step) + "/manifest.textproto");
}

/// Where a checkpoint waits for the one that takes its place.
std::string replaced_folder(const std::string& run_dir, int64_t step) {
  const std::filesystem::path folder = step_folder(run_dir, step);
  return (folder.parent_path() / ("replaced_" + folder.filename().string())).string();
}

/// Steps of a run's folders whose name is that of their step, ascending.
template <class NameOf>
std::vector<int64_t> steps_of(const std::string& run_dir, const NameOf& name_of_step) {
  std::vector<int64_t> steps;
  const std::string folder = run_dir + "/checkpoints";
  if (!is_there(folder)) return steps;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const size_t number = name.rfind('_') + 1;
    int64_t step = -1;
    std::from_chars(name.data() + number, name.data() + name.size(), step);
    if (step >= 0 && entry->path() == name_of_step(run_dir, step)) steps.push_back(step);
  }
  ENSURE(!error, folder, ": cannot be listed: ", error.message());
  std::sort(steps.begin(), steps.end());
  return steps;
}

/// Step folders of a run, with or without a manifest, by step.
std::vector<int64_t> step_folders(const std::string& run_dir) { return steps_of(run_dir, step_folder); }

/// Removes a checkpoint, its manifest first, so that a part of it is never taken for all. Returns why it could not.
std::error_code remove_folder(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) return {};
  std::filesystem::remove(folder + "/manifest.textproto", error);
  if (error) return error;
  // Also when the machine goes down in between.
  try {
    sync_folder(folder);
  } catch (const Error& problem) {
    LOG(WARNING) << problem.what();
  }
  std::filesystem::remove_all(folder, error);
  return error;
}

void remove_or_warn(const std::string& folder) {
  const std::error_code error = remove_folder(folder);
  if (error) LOG(WARNING) << folder << ": cannot be removed: " << error.message();
}

}  // namespace

std::vector<int64_t> checkpoint_steps(const std::string& run_dir) {
  std::vector<int64_t> steps = step_folders(run_dir);
  std::erase_if(steps, [&](int64_t step) { return !has_manifest(run_dir, step); });
  return steps;
}

void make_step_folder(const std::string& run_dir, int64_t step) {
  const std::string folder = step_folder(run_dir, step), replaced = replaced_folder(run_dir, step);
  std::error_code error;
  if (has_manifest(run_dir, step)) {
    error = remove_folder(replaced);
    if (!error) std::filesystem::rename(folder, replaced, error);
  } else {
    error = remove_folder(folder);
  }
  ENSURE(!error, folder, ": cannot be emptied: ", error.message());
  std::filesystem::create_directories(folder, error);
  std::error_code none;
  if (error && std::filesystem::is_directory(replaced, none)) std::filesystem::rename(replaced, folder, none);
  ENSURE(!error, folder, ": cannot be created: ", error.message());
}

std::error_code give_up_step_folder(const std::string& run_dir, int64_t step) {
  const std::string folder = step_folder(run_dir, step), replaced = replaced_folder(run_dir, step);
  std::error_code error = remove_folder(folder), none;
  if (!error && std::filesystem::is_directory(replaced, none)) std::filesystem::rename(replaced, folder, error);
  return error;
}

void settle_replaced(const std::string& run_dir) {
  const std::vector<int64_t> steps = steps_of(run_dir, replaced_folder);
  for (int64_t step : steps) {
    const std::error_code error = has_manifest(run_dir, step) ? remove_folder(replaced_folder(run_dir, step))
                                                              : give_up_step_folder(run_dir, step);
    ENSURE(!error, replaced_folder(run_dir, step), ": cannot take its place again: ", error.message());
  }
  if (!steps.empty()) sync_folder(run_dir + "/checkpoints");
}

void remove_old_checkpoints(const std::string& run_dir, const CheckpointConfig& config, int64_t newest) try {
  std::vector<int64_t> whole = checkpoint_steps(run_dir);
  std::erase_if(whole, [&](int64_t step) { return step > newest; });
  const auto kept = whole.end() - std::min(config.keep(), static_cast<int64_t>(whole.size()));
  for (int64_t step : step_folders(run_dir)) {
    const auto at = std::lower_bound(whole.begin(), whole.end(), step);
    const bool is_whole = at != whole.end() && *at == step;
    if (is_whole && (at >= kept || (config.keep_every() > 0 && step % config.keep_every() == 0))) continue;
    remove_or_warn(step_folder(run_dir, step));
  }
  for (int64_t step : steps_of(run_dir, replaced_folder)) remove_or_warn(replaced_folder(run_dir, step));
} catch (const Error& error) {
  LOG(WARNING) << "no old checkpoint is removed: " << error.what();
}

}  // namespace sluice
