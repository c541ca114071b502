#include "runtime/save.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <vector>

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

void write_all(const std::string& folder, const SavedState& saved) {
  ProcessGroup& world = saved.mesh.world();
  agree(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    ENSURE(!error, folder, ": cannot be created: ", error.message());
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

void save_checkpoint(const std::string& run_dir, const SavedState& saved) {
  const std::string folder = step_folder(run_dir, saved.step);
  try {
    write_all(folder, saved);
  } catch (const AgreedError&) {
    // What is there of it takes room, and would count as one of the checkpoints to keep.
    std::error_code error;
    if (saved.mesh.world().rank() == 0 && std::filesystem::is_directory(folder, error)) {
      std::filesystem::remove_all(folder, error);
    }
    throw;
  }
}

void remove_old_checkpoints(const std::string& run_dir, int64_t keep) {
  std::vector<std::filesystem::path> folders;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(run_dir + "/checkpoints", error)) {
    if (entry.path().filename().string().rfind("step_", 0) == 0) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  for (size_t i = 0; i + static_cast<size_t>(keep) < folders.size(); ++i) {
    // The manifest first: a folder without one does not exist.
    std::filesystem::remove(folders[i] / "manifest.textproto", error);
    std::filesystem::remove_all(folders[i], error);
    if (error) LOG(WARNING) << folders[i].string() << ": cannot be removed: " << error.message();
  }
}

}  // namespace sluice
