#include "runtime/checkpoint_list.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>
#include <tuple>

#include "kernels/core/error.h"
#include "models/parameters.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/config.h"
#include "runtime/step_folders.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

/// The step that a folder's name ends with, -1: none.
int64_t step_in_name(const std::string& name) {
  const std::string word = "step_";
  const size_t at = name.find(word);
  int64_t step = -1;
  if (at != std::string::npos) std::from_chars(name.data() + at + word.size(), name.data() + name.size(), step);
  return step;
}

int64_t bytes_in(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator file(folder, error), end; !error && file != end; file.increment(error)) {
    std::error_code gone;
    const auto size = file->is_regular_file(gone) ? file->file_size(gone) : 0;
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

std::chrono::system_clock::time_point time_of(const fs::path& folder) {
  std::error_code error;
  auto time = fs::last_write_time(folder / "manifest.textproto", error);
  if (error) time = fs::last_write_time(folder, error);
  if (error) return {};
  return std::chrono::time_point_cast<std::chrono::system_clock::duration>(std::chrono::file_clock::to_sys(time));
}

int64_t stored_parameters(const Manifest& manifest) {
  std::set<std::string> seen;
  int64_t parameters = 0;
  for (const Piece& piece : manifest.pieces()) {
    if (piece.kind() != Piece::MASTER || !seen.insert(piece.name()).second) continue;
    int64_t count = 1;
    for (int64_t dim : piece.global_shape()) count *= dim;
    if (__builtin_add_overflow(parameters, count, &parameters)) return 0;
  }
  return parameters;
}

/// Fills in what the manifest says. Throws Error with what is wrong.
void look_at(const fs::path& folder, const std::string& run_dir, ListedCheckpoint& listed) {
  const Manifest manifest = read_manifest_alone(folder.string());
  const TrainConfig config = parse_config(manifest.config(), folder.string() + "/manifest.textproto: config");
  listed.step = manifest.step();
  listed.contents = {manifest.world_size(), manifest.shards_size(), stored_parameters(manifest), config.mesh(),
                     config.optimizer().zero_stage()};
  for (const ShardFile& shard : manifest.shards()) check_shard(shard, folder.string());
  const int64_t named = step_in_name(listed.folder);
  ENSURE(listed.state != ListedCheckpoint::kGood || folder == step_folder(run_dir, manifest.step()), folder.string(),
         "/manifest.textproto: step=", manifest.step(), " in the folder of step ", named);
  std::error_code error;
  ENSURE(!manifest.has_tokenizer_xxh3() || fs::is_regular_file(folder / "tokenizer.json", error), folder.string(),
         "/tokenizer.json: is missing");
}

ListedCheckpoint make_listed(const fs::path& folder, const std::string& run_dir) {
  ListedCheckpoint listed;
  listed.folder = folder.filename().string();
  listed.step = step_in_name(listed.folder);
  const bool step = listed.step >= 0 && folder == step_folder(run_dir, listed.step);
  if (!step) {
    listed.state = listed.folder.starts_with("damaged_")    ? ListedCheckpoint::kSetAside
                   : listed.folder.starts_with("replaced_") ? ListedCheckpoint::kReplaced
                                                            : ListedCheckpoint::kOther;
  }
  listed.bytes = bytes_in(folder);
  listed.written = time_of(folder);
  std::error_code error;
  if (step && !fs::exists(folder / "manifest.textproto", error) && !error) {
    listed.state = ListedCheckpoint::kUnfinished;
    listed.problem = "there is no manifest";
    return listed;
  }
  try {
    look_at(folder, run_dir, listed);
  } catch (const Error& problem) {
    if (!is_from_outside(problem.fault())) throw;
    if (step) listed.state = ListedCheckpoint::kDamaged;
    listed.problem = problem.what();
  }
  return listed;
}

}  // namespace

std::vector<ListedCheckpoint> list_checkpoints(const std::string& run_dir) {
  const std::string folder = run_dir + "/checkpoints";
  std::vector<ListedCheckpoint> checkpoints;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code gone;
    if (entry->is_directory(gone)) checkpoints.push_back(make_listed(entry->path(), run_dir));
  }
  ENSURE(error != std::errc::no_such_file_or_directory, run_dir,
         ": holds no folder checkpoints; give the folder of a run");
  ENSURE(!error, folder, ": cannot be listed: ", error.message());
  std::sort(checkpoints.begin(), checkpoints.end(), [](const ListedCheckpoint& a, const ListedCheckpoint& b) {
    return std::tie(a.step, a.folder) < std::tie(b.step, b.folder);
  });
  return checkpoints;
}

std::vector<ParameterRecord> saved_parameters(const Manifest& manifest, const std::string& folder) {
  const TrainConfig config = parse_config(manifest.config(), folder + "/manifest.textproto: config");
  // What a machine needs to train it is not asked for.
  validate_model(config.model());
  return parameter_records(config.model(), config.optimizer().decay_embeddings());
}

}  // namespace sluice
