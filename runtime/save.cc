#include "runtime/save.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <fmt/format.h>
#include <glog/logging.h>

#include "parallel/agree.h"
#include "parallel/owned_parts.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/shard_writer.h"
#include "runtime/config.h"
#include "runtime/files/output_file.h"
#include "runtime/files/thread_clock.h"
#include "runtime/files/xxh3.h"
#include "runtime/metrics/audit_log.h"
#include "runtime/schedule.h"
#include "runtime/step_folders.h"

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

/// A thread, or, where there can be no more, whoever waits for it.
constexpr auto kThread = std::launch::async | std::launch::deferred;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class T>
bool ready(const std::future<T>& future) {
  return !future.valid() || future.wait_for(std::chrono::seconds(0)) != std::future_status::timeout;
}

}  // namespace

std::vector<OwnedElements> owned_elements(const ModelState& model, const Optimizer& optimizer, const Mesh& mesh) {
  std::vector<OwnedElements> owned;
  const FlatLayout& layout = model.layout;
  const std::vector<OwnedPart> parts = owned_parts(layout, mesh.shape(), mesh.world().rank());
  for (size_t i = 0; i < parts.size(); ++i) {
    const OwnedPart& part = parts[i];
    const Bucket& bucket = layout.buckets()[i];
    for (const ParameterRecord& r : model.records) {
      if (r.stage != bucket.stage || r.replicas != bucket.replicas) continue;
      const int64_t begin = std::max(part.flat_begin, r.flat_begin);
      const int64_t count = std::min(part.flat_begin + part.count, r.flat_begin + r.count) - begin;
      if (count <= 0) continue;
      const auto of_part = [&](Tensor t) { return t.rows(begin - part.flat_begin, count); };
      owned.push_back({&r, begin - r.flat_begin, begin - r.flat_begin + count, of_part(optimizer.owned_weights(i)),
                       of_part(optimizer.owned_m(i)), of_part(optimizer.owned_v(i))});
    }
  }
  return owned;
}

CheckpointSaver::CheckpointSaver(const SavedRun& run)
    : run_(run),
      world_(run.mesh.world()),
      staging_("staging", MemorySource::kPages, physical_memory_bytes()),
      snapshot_(owned_elements(run.model, run.optimizer, run.mesh), staging_) {}

void CheckpointSaver::take_memory() {
  const int64_t every = run_.config.checkpoint().every();
  if (every == 0 || every >= run_.config.training().steps()) return;
  populated_ = std::async(kThread, [this] {
    const double cpu_before_s = thread_cpu_time_s();
    staging_.populate(stop_.get_token());
    return thread_cpu_time_s() - cpu_before_s;
  });
}

Manifest CheckpointSaver::head(Isa isa, const SavedPosition& position) const {
  Manifest manifest;
  manifest.set_step(position.step);
  manifest.set_moment_updates(run_.optimizer.earlier_updates() + position.step);
  *manifest.mutable_data_state() = run_.data;
  const int64_t cursor = samples_before(run_.config.training(), position.step + 1) + position.dropped_samples;
  manifest.mutable_data_state()->set_sample_cursor(cursor);
  manifest.mutable_data_state()->set_dropped_samples(position.dropped_samples);
  manifest.mutable_data_state()->set_stage(0);
  *manifest.mutable_stability() = position.stability;
  if (!position.unlogged.empty()) manifest.set_unlogged(position.unlogged);
  manifest.set_config(config_text(run_.config));
  manifest.set_isa(isa_name(isa));
  manifest.set_threads(run_.config.cpu().threads());
  manifest.set_world_size(world_.size());
  if (!run_.tokenizer_text.empty()) manifest.set_tokenizer_xxh3(hex16(xxh3(run_.tokenizer_text)));
  return manifest;
}

ShardSnapshot::Written CheckpointSaver::write_shard(int64_t step) const {
  const std::string folder = step_folder(run_.run_dir, step);
  if (world_.rank() == 0 && !run_.tokenizer_text.empty()) {
    OutputFile tokenizer(folder + "/tokenizer.json");
    tokenizer.write(run_.tokenizer_text);
    tokenizer.commit();
  }
  return snapshot_.write(folder, shard_file_name(world_.rank(), world_.size()), stop_.get_token());
}

void CheckpointSaver::begin(Stream& s, const SavedPosition& position, After after) {
  const Clock::time_point start = Clock::now();
  const int64_t step = position.step;
  finish();
  const std::string failure = agreed_failure(world_, Fault::kUser, [&] {
    if (world_.rank() == 0) make_step_folder(run_.run_dir, step);
  });
  if (!failure.empty()) return note_failure(step, failure);
  in_flight_.emplace();
  in_flight_->step = step;
  if (after == After::kNothingChanges) {
    snapshot_.borrow();
  } else {
    if (populated_.valid()) in_flight_->cpu_s = populated_.get();
    snapshot_.take(s);
  }
  if (world_.rank() == 0) in_flight_->manifest = head(s.isa, position);
  in_flight_->shard = std::async(kThread, [this, step] { return write_shard(step); });
  in_flight_->start = start;
  in_flight_->blocked_s = seconds_since(start);
}

bool CheckpointSaver::all_ready() {
  int64_t waits = ready(in_flight_->shard) && ready(in_flight_->commit) ? 0 : 1;
  world_.all_reduce({&waits, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  return waits == 0;
}

void CheckpointSaver::poll() {
  if (!in_flight_) return;
  const Clock::time_point start = Clock::now();
  const bool ready = all_ready();
  in_flight_->blocked_s += seconds_since(start);
  if (ready) advance();
}

void CheckpointSaver::finish() {
  while (in_flight_) advance();
}

void CheckpointSaver::advance() {
  const Clock::time_point start = Clock::now();
  const bool shards = in_flight_->shard.valid();
  ShardSnapshot::Written own;
  std::string failure;
  try {
    failure = agreed_failure(world_, Fault::kUser, [&] {
      if (shards) own = in_flight_->shard.get();
      if (in_flight_->commit.valid()) in_flight_->cpu_s += in_flight_->commit.get();
    });
  } catch (...) {
    in_flight_.reset();
    throw;
  }
  if (!failure.empty()) return give_up(in_flight_->step, failure);
  if (shards) collect(own);
  in_flight_->blocked_s += seconds_since(start);
  if (!shards) conclude();
}

void CheckpointSaver::collect(const ShardSnapshot::Written& own) {
  in_flight_->cpu_s += own.cpu_s;
  std::string text;
  INVARIANT(own.manifest.SerializeToString(&text), "the list of pieces cannot be serialised");
  for (const std::string& part : gather_texts(world_, text)) {
    INVARIANT(in_flight_->manifest.MergeFromString(part), "a rank's list of pieces arrived damaged");
  }
  if (world_.rank() != 0) return;
  in_flight_->commit = std::async(kThread, [this, &manifest = in_flight_->manifest] {
    const double cpu_before_s = thread_cpu_time_s();
    const std::string folder = step_folder(run_.run_dir, manifest.step());
    if (run_.before_commit) run_.before_commit();
    sync_folder(std::filesystem::path(folder).parent_path().string());
    write_manifest(folder, manifest);
    remove_old_checkpoints(run_.run_dir, run_.config.checkpoint(), manifest.step());
    return thread_cpu_time_s() - cpu_before_s;
  });
}

void CheckpointSaver::set_unlogged(const std::string& metrics) {
  INVARIANT(in_flight_ && in_flight_->shard.valid(), "no checkpoint has just begun");
  in_flight_->manifest.set_unlogged(metrics);
}

void CheckpointSaver::conclude() {
  slowest_s_ = std::max(slowest_s_, seconds_since(in_flight_->start));
  saved_step_ = in_flight_->step;
  note_failures();
  if (world_.rank() == 0) {
    double bytes = 0;
    for (const ShardFile& shard : in_flight_->manifest.shards()) bytes += static_cast<double>(shard.bytes());
    LOG(INFO) << fmt::format(
        "step {}: checkpoint of {:.1f} MB written in {:.2f} s; training waited {:.3f} s for it, "
        "its threads took {:.3f} s of a core",
        in_flight_->step, bytes * 1e-6, seconds_since(in_flight_->start), in_flight_->blocked_s, in_flight_->cpu_s);
  }
  in_flight_.reset();
}

void CheckpointSaver::give_up(int64_t step, const std::string& reason) {
  in_flight_.reset();
  // What is there of it takes room.
  if (world_.rank() == 0) {
    const std::error_code error = give_up_step_folder(run_.run_dir, step);
    if (error) LOG(WARNING) << step_folder(run_.run_dir, step) << ": cannot be removed: " << error.message();
  }
  note_failure(step, reason);
}

void CheckpointSaver::note_failure(int64_t step, const std::string& reason) {
  failures_.emplace_back(step, concat("step ", step, ": no checkpoint: ", reason));
  if (world_.rank() != 0) return;
  LOG(WARNING) << failures_.back().second;
  unnoted_.emplace_back(step, reason);
  note_failures();
}

void CheckpointSaver::note_failures() {
  while (!unnoted_.empty()) {
    const auto& [step, reason] = unnoted_.front();
    if (!append_audit(run_.run_dir, step, "checkpoint_failed", reason)) return;
    unnoted_.pop_front();
  }
}

}  // namespace sluice
