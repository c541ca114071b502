#include "runtime/resume.h"

#include <filesystem>
#include <limits>
#include <vector>

#include <glog/logging.h>

#include "parallel/agree.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/config.h"
#include "runtime/files/output_file.h"
#include "runtime/files/xxh3.h"
#include "runtime/metrics/audit_log.h"
#include "runtime/run_folder.h"
#include "runtime/same_run.h"
#include "runtime/save.h"
#include "runtime/schedule.h"

namespace sluice {
namespace {

/// A checkpoint that cannot be read, and why.
struct Damage {
  int64_t step;
  std::string reason;
};

/// The newest checkpoint below step `before` that rank 0 sees, on every rank; -1: none.
int64_t newest_step(ProcessGroup& world, const std::string& run_dir, int64_t before) {
  int64_t newest = -1;
  agree(world, [&] {
    if (world.rank() != 0) return;
    for (int64_t step : checkpoint_steps(run_dir)) newest = step < before ? step : newest;
  });
  world.broadcast({&newest, DType::kI64, Device::kCpu, {1}}, 0).wait();
  return newest;
}

/// Runs `body`, which reads files, as agree() does. Returns what is wrong with them, on every rank; empty: nothing.
template <class Body>
std::string damage_in(ProcessGroup& world, const Body& body) {
  std::string reason;
  try {
    agree(world, body);
    return "";
  } catch (const AgreedError& error) {
    if (error.fault() != Fault::kUser) throw;
    reason = error.what();
  }
  // One rank knows it.
  int64_t teller = reason.empty() ? -1 : world.rank();
  world.all_reduce({&teller, DType::kI64, Device::kCpu, {1}}, ReduceOp::kMax).wait();
  return broadcast_string(world, reason, static_cast<int>(teller));
}

TrainConfig config_of(const CheckpointReader& reader, const std::string& folder) {
  return parse_config(reader.manifest().config(), folder + "/manifest.textproto: config");
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
  ENSURE(folder.ends_with(step_folder("", manifest.step())), folder, "/manifest.textproto: step=", manifest.step(),
         " in the folder of another step");
  const int64_t cursor = samples_before(identity.config.training(), manifest.step() + 1);
  ENSURE(manifest.data_state().sample_cursor() == cursor, folder,
         "/manifest.textproto: sample_cursor=", manifest.data_state().sample_cursor(), ", expected ", cursor,
         " after step ", manifest.step());
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

/// Fills weights and moments from the checkpoint of a step. Returns what is wrong with its files, on every rank; empty:
/// nothing. Throws AgreedError when it is of another run.
std::string load_step(const std::string& folder, const RunIdentity& identity, ProcessGroup& world, ModelState& model,
                      Optimizer& optimizer, std::string& changes) {
  std::optional<CheckpointReader> reader;
  std::string damage = damage_in(world, [&] { reader.emplace(folder); });
  if (!damage.empty()) return damage;
  check_shared(*reader, folder, world);
  agree(world, [&] { changes = check_identity(*reader, folder, identity, model); });
  damage = damage_in(world, [&] { load_state(*reader, model, optimizer); });
  if (damage.empty() && world.rank() == 0) warn_of_rounding(*reader, folder, identity);
  return damage;
}

}  // namespace

void load_moments(CheckpointReader& reader, const ParameterRecord& record, Optimizer& optimizer) {
  const Optimizer::Moments moments = optimizer.moments(record);
  if (moments.begin == moments.end) return;
  reader.read(record, Piece::M, moments.begin, moments.end, moments.m);
  reader.read(record, Piece::V, moments.begin, moments.end, moments.v);
}

void load_state(CheckpointReader& reader, ModelState& model, Optimizer& optimizer) {
  for (const ParameterRecord& record : model.records) {
    reader.read(record, Piece::MASTER, model.weights);
    load_moments(reader, record, optimizer);
  }
  optimizer.set_earlier_updates(moment_updates(reader.manifest()) - reader.manifest().step());
}

std::optional<ResumePoint> resume(const std::string& run_dir, const RunIdentity& identity, const Mesh& mesh,
                                  ModelState& model, Optimizer& optimizer) {
  ProcessGroup& world = mesh.world();
  std::vector<Damage> damaged;
  ResumePoint point{newest_step(world, run_dir, std::numeric_limits<int64_t>::max()), ""};
  for (; point.step >= 0; point.step = newest_step(world, run_dir, point.step)) {
    const std::string folder = step_folder(run_dir, point.step);
    const std::string damage = load_step(folder, identity, world, model, optimizer, point.changes);
    if (damage.empty()) {
      agree(world, [&] {
        if (world.rank() == 0) set_aside(run_dir, damaged);
      });
      return point;
    }
    damaged.push_back({point.step, damage});
  }
  if (damaged.empty()) return std::nullopt;
  const std::string message = run_dir + "/checkpoints: none is good, the newest for this: " + damaged.front().reason;
  throw AgreedError(world.rank() == 0 ? message : "", Fault::kUser);
}

}  // namespace sluice
