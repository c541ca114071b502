#include "runtime/save.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>

#include <glog/logging.h>

#include "parallel/agree.h"
#include "parallel/owned_parts.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/config.h"
#include "runtime/files/output_file.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

/// Every rank's text on rank 0, in rank order; nothing elsewhere.
std::vector<std::string> gather_texts(ProcessGroup& world, const std::string& text) {
  int64_t own_bytes = static_cast<int64_t>(text.size());
  std::vector<int64_t> bytes(static_cast<size_t>(world.size()));
  world
      .all_gather({&own_bytes, DType::kI64, Device::kCpu, {1}},
                  {bytes.data(), DType::kI64, Device::kCpu, {world.size()}})
      .wait();
  std::vector<std::string> texts;
  if (world.rank() != 0) {
    world.send({const_cast<char*>(text.data()), DType::kU8, Device::kCpu, {own_bytes}}, 0).wait();
    return texts;
  }
  texts.push_back(text);
  for (int rank = 1; rank < world.size(); ++rank) {
    const int64_t count = bytes[static_cast<size_t>(rank)];
    texts.emplace_back(static_cast<size_t>(count), '\0');
    world.receive({texts.back().data(), DType::kU8, Device::kCpu, {count}}, rank).wait();
  }
  return texts;
}

Manifest merged(const std::vector<std::string>& parts, const SavedState& saved, int world_size) {
  Manifest manifest;
  manifest.set_step(saved.step);
  manifest.set_moment_updates(saved.optimizer.earlier_updates() + saved.step);
  manifest.mutable_data_state()->set_sample_cursor(saved.sample_cursor);
  manifest.mutable_data_state()->set_stage(0);
  manifest.set_config(config_text(saved.config));
  manifest.set_isa(isa_name(saved.isa));
  manifest.set_threads(saved.config.cpu().threads());
  manifest.set_world_size(world_size);
  if (!saved.tokenizer_text.empty()) manifest.set_tokenizer_xxh3(hex16(xxh3(saved.tokenizer_text)));
  for (const std::string& part : parts) {
    INVARIANT(manifest.MergeFromString(part), "a rank's list of pieces arrived damaged");
  }
  return manifest;
}

/// What this rank alone writes.
std::vector<OwnedElements> owned_elements(const SavedState& saved) {
  std::vector<OwnedElements> owned;
  const FlatLayout& layout = saved.model.layout;
  const std::vector<OwnedPart> parts = owned_parts(layout, saved.mesh.shape(), saved.mesh.world().rank());
  for (size_t i = 0; i < parts.size(); ++i) {
    const OwnedPart& part = parts[i];
    const Bucket& bucket = layout.buckets()[i];
    for (const ParameterRecord& r : saved.model.records) {
      if (r.stage != bucket.stage || r.replicas != bucket.replicas) continue;
      const int64_t begin = std::max(part.flat_begin, r.flat_begin);
      const int64_t count = std::min(part.flat_begin + part.count, r.flat_begin + r.count) - begin;
      if (count <= 0) continue;
      const auto of_part = [&](Tensor t) { return t.rows(begin - part.flat_begin, count); };
      owned.push_back({&r, begin - r.flat_begin, begin - r.flat_begin + count, saved.model.weights.rows(begin, count),
                       of_part(saved.optimizer.owned_m(i)), of_part(saved.optimizer.owned_v(i))});
    }
  }
  return owned;
}

}  // namespace

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

/// Step folders of a run, with or without a manifest, by step.
std::vector<int64_t> step_folders(const std::string& run_dir) {
  std::vector<int64_t> steps;
  const std::string folder = run_dir + "/checkpoints";
  if (!is_there(folder)) return steps;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const size_t number = name.find('_') + 1;
    int64_t step = -1;
    std::from_chars(name.data() + number, name.data() + name.size(), step);
    if (step >= 0 && entry->path() == step_folder(run_dir, step)) steps.push_back(step);
  }
  ENSURE(!error, folder, ": cannot be listed: ", error.message());
  std::sort(steps.begin(), steps.end());
  return steps;
}

/// The manifest first: a folder without one does not exist.
std::error_code remove_step_folder(const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) return {};
  std::filesystem::remove(folder + "/manifest.textproto", error);
  std::filesystem::remove_all(folder, error);
  return error;
}

/// An empty folder for a checkpoint.
void make_step_folder(const std::string& folder) {
  std::error_code error = remove_step_folder(folder);
  ENSURE(!error, folder, ": cannot be emptied: ", error.message());
  std::filesystem::create_directories(folder, error);
  ENSURE(!error, folder, ": cannot be created: ", error.message());
  sync_folder(std::filesystem::path(folder).parent_path().string());
}

void write_all(const std::string& folder, const SavedState& saved) {
  ProcessGroup& world = saved.mesh.world();
  agree(world, [&] {
    if (world.rank() != 0) return;
    make_step_folder(folder);
    if (saved.tokenizer_text.empty()) return;
    OutputFile tokenizer(folder + "/tokenizer.json");
    tokenizer.write(saved.tokenizer_text);
    tokenizer.commit();
  });
  std::string pieces;
  agree(world, [&] {
    const Manifest own = write_shard(folder, world.rank(), world.size(), owned_elements(saved));
    INVARIANT(own.SerializeToString(&pieces), "the list of pieces cannot be serialised");
  });
  const std::vector<std::string> parts = gather_texts(world, pieces);
  agree(world, [&] {
    if (world.rank() == 0) write_manifest(folder, merged(parts, saved, world.size()));
  });
}

}  // namespace

std::vector<int64_t> checkpoint_steps(const std::string& run_dir) {
  std::vector<int64_t> steps = step_folders(run_dir);
  std::erase_if(steps, [&](int64_t step) { return !has_manifest(run_dir, step); });
  return steps;
}

void save_checkpoint(const std::string& run_dir, const SavedState& saved) {
  const std::string folder = step_folder(run_dir, saved.step);
  try {
    write_all(folder, saved);
  } catch (const AgreedError&) {
    // What is there of it takes room.
    if (saved.mesh.world().rank() == 0) remove_step_folder(folder);
    throw;
  }
}

void remove_old_checkpoints(const std::string& run_dir, int64_t keep) try {
  std::vector<int64_t> kept = checkpoint_steps(run_dir);
  if (static_cast<int64_t>(kept.size()) > keep) kept.erase(kept.begin(), kept.end() - keep);
  for (int64_t step : step_folders(run_dir)) {
    if (std::binary_search(kept.begin(), kept.end(), step)) continue;
    const std::error_code error = remove_step_folder(step_folder(run_dir, step));
    if (error) LOG(WARNING) << step_folder(run_dir, step) << ": cannot be removed: " << error.message();
  }
} catch (const Error& error) {
  LOG(WARNING) << "no old checkpoint is removed: " << error.what();
}

}  // namespace sluice
