#include "runtime/resume.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <glog/logging.h>

#include "parallel/agree.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/config.h"
#include "runtime/files/output_file.h"
#include "runtime/files/xxh3.h"
#include "runtime/metrics/audit_log.h"
#include "runtime/metrics/metrics_log.h"
#include "runtime/run_folder.h"
#include "runtime/same_run.h"
#include "runtime/schedule.h"
#include "runtime/step_folders.h"

namespace sluice {
namespace {

/// A checkpoint that cannot be read, and why.
struct Damage {
  int64_t step;
  std::string reason;
};

TrainConfig config_of(const CheckpointReader& reader, const std::string& folder) {
  return parse_config(reader.manifest().config(), folder + "/manifest.textproto: config");
}

std::string in_words(const DataSetState& set) {
  return concat(set.documents(), " documents of ", set.tokens(), " tokens (XXH3 ", set.xxh3(), ")");
}

/// Wherever the sets lie, they must hold what they held. Their number is compared with the configuration.
void check_data(const DataState& saved, const TrainConfig& run, const std::string& folder,
                const RunIdentity& identity) {
  for (int i = 0; i < std::min(saved.sets_size(), identity.data.sets_size()); ++i) {
    const std::string was = in_words(saved.sets(i)), is = in_words(identity.data.sets(i));
    ENSURE(was == is, "data.train[", i, "].prefix=", identity.config.data().train(i).prefix(), " holds ", is, ", but ",
           folder, " was trained with ", was, " of ", run.data().train(i).prefix());
  }
}

/// Throws Error unless a checkpoint is of this run. Returns what was changed since.
std::string check_identity(const CheckpointReader& reader, const std::string& folder, const RunIdentity& identity,
                           const ModelState& model) {
  const Manifest& manifest = reader.manifest();
  const TrainConfig run = config_of(reader, folder);
  const std::string changes = check_same_run(run, identity.config, folder);
  const std::string tokenizer = identity.tokenizer_text.empty() ? "" : hex16(xxh3(identity.tokenizer_text));
  ENSURE(manifest.tokenizer_xxh3() == tokenizer, "data.tokenizer=", identity.config.data().tokenizer(),
         " is not the tokenizer that ", folder, " was trained with, data.tokenizer=", run.data().tokenizer());
  check_data(manifest.data_state(), run, folder, identity);
  ENSURE(folder.ends_with(step_folder("", manifest.step())), folder, "/manifest.textproto: step=", manifest.step(),
         " in the folder of another step");
  const DataState& data = manifest.data_state();
  const int64_t used = samples_before(identity.config.training(), manifest.step() + 1);
  constexpr int64_t kMostDropped = int64_t{1} << 53;
  ENSURE(0 <= data.dropped_samples() && data.dropped_samples() <= kMostDropped && data.sample_cursor() >= 0 &&
             data.sample_cursor() - used == data.dropped_samples(),
         folder, "/manifest.textproto: sample_cursor=", data.sample_cursor(), ", expected ", used, " after step ",
         manifest.step(), " and dropped_samples=", data.dropped_samples(), " more");
  if (!manifest.unlogged().empty()) {
    const int64_t step = parse_metrics(manifest.unlogged(), folder + "/manifest.textproto: unlogged").step;
    ENSURE(step == manifest.step(), folder, "/manifest.textproto: unlogged is of step ", step, ", expected ",
           manifest.step());
  }
  reader.check_parameters(model.records);
  return changes;
}

/// A run repeats to the last bit with the same instruction set, threads and layout.
void warn_of_rounding(const CheckpointReader& reader, const std::string& folder, const RunIdentity& identity) {
  if (reader.manifest().isa() == isa_name(identity.isa) && same_layout(config_of(reader, folder), identity.config)) {
    return;
  }
  LOG(WARNING) << folder << " was written with " << reader.manifest().isa() << " instructions, "
               << reader.manifest().world_size() << " rank(s) of " << reader.manifest().threads()
               << " thread(s); with others, or another layout, numbers differ from an uninterrupted run's by rounding";
}

void set_aside(const std::string& run_dir, const std::vector<Damage>& damaged) {
  for (const auto& [step, reason] : damaged) {
    const std::filesystem::path folder = step_folder(run_dir, step);
    const std::string aside = free_path((folder.parent_path() / ("damaged_" + folder.filename().string())).string());
    LOG(WARNING) << reason << "; an older checkpoint takes its place, this one is kept as " << aside;
    append_audit(run_dir, step, "checkpoint_damaged", reason);
    std::error_code error;
    std::filesystem::rename(folder, aside, error);
    ENSURE(!error, folder.string(), ": cannot be renamed to ", aside, ": ", error.message());
    sync_folder(folder.parent_path().string());
  }
}

/// Throws AgreedError unless all ranks have opened the same checkpoint.
void check_shared(const CheckpointReader& reader, const std::string& folder, ProcessGroup& world) {
  const std::string own = hex16(xxh3(reader.manifest().SerializeAsString())), first = broadcast_string(world, own);
  agree(world, [&] {
    ENSURE(own == first, folder, ": rank ", world.rank(),
           " sees another checkpoint there than rank 0; --run must lie where all ranks see the same files");
  });
}

}  // namespace

int64_t newest_checkpoint(ProcessGroup& world, const std::string& run_dir, int64_t before) {
  int64_t newest = -1;
  agree(world, [&] {
    if (world.rank() != 0) return;
    for (int64_t step : checkpoint_steps(run_dir)) newest = step < before ? step : newest;
  });
  world.broadcast({&newest, DType::kI64, Device::kCpu, {1}}, 0).wait();
  return newest;
}

void load_moments(CheckpointReader& reader, const ParameterRecord& record, Optimizer& optimizer) {
  const Optimizer::Moments moments = optimizer.moments(record);
  if (moments.begin == moments.end) return;
  reader.read(record, Piece::M, moments.begin, moments.end, moments.m);
  reader.read(record, Piece::V, moments.begin, moments.end, moments.v);
}

void load_state(CheckpointReader& reader, ModelState& model, Optimizer& optimizer,
                const std::function<void()>& before_each) {
  for (const ParameterRecord& record : model.records) {
    if (before_each) before_each();
    reader.read(record, Piece::MASTER, model.weights);
    load_moments(reader, record, optimizer);
  }
  optimizer.set_earlier_updates(moment_updates(reader.manifest()) - reader.manifest().step());
}

std::string load_checkpoint(const std::string& folder, const RunIdentity& identity, const Mesh& mesh, ModelState& model,
                            Optimizer& optimizer, ResumePoint& point, const std::function<void()>& before_each) {
  ProcessGroup& world = mesh.world();
  std::optional<CheckpointReader> reader;
  std::string damage = agreed_failure(world, Fault::kDamage, [&] {
    reader.emplace(folder);
    if (world.rank() == 0) read_tokenizer_text(reader->manifest(), folder);
  });
  if (!damage.empty()) return damage;
  check_shared(*reader, folder, world);
  agree(world, [&] { point.changes = check_identity(*reader, folder, identity, model); });
  point.position.step = reader->manifest().step();
  point.position.stability = reader->manifest().stability();
  point.position.dropped_samples = reader->manifest().data_state().dropped_samples();
  point.position.unlogged = reader->manifest().unlogged();
  damage = agreed_failure(world, Fault::kDamage, [&] { load_state(*reader, model, optimizer, before_each); });
  if (damage.empty() && world.rank() == 0) warn_of_rounding(*reader, folder, identity);
  return damage;
}

std::optional<ResumePoint> resume(const std::string& run_dir, const RunIdentity& identity, const Mesh& mesh,
                                  ModelState& model, Optimizer& optimizer, const std::function<void()>& before_each) {
  ProcessGroup& world = mesh.world();
  std::vector<Damage> damaged;
  ResumePoint point;
  int64_t& step = point.position.step;
  for (step = newest_checkpoint(world, run_dir); step >= 0; step = newest_checkpoint(world, run_dir, step)) {
    const std::string folder = step_folder(run_dir, step);
    const std::string damage = load_checkpoint(folder, identity, mesh, model, optimizer, point, before_each);
    if (damage.empty()) {
      agree(world, [&] {
        if (world.rank() == 0) set_aside(run_dir, damaged);
      });
      return point;
    }
    damaged.push_back({step, damage});
  }
  if (damaged.empty()) return std::nullopt;
  const std::string message = run_dir + "/checkpoints: none is good, the newest for this: " + damaged.front().reason;
  throw AgreedError(world.rank() == 0 ? message : "", Fault::kUser);
}

}  // namespace sluice
