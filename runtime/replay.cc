#include "runtime/replay.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "kernels/elementwise.h"
#include "parallel/agree.h"
#include "runtime/config.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/xxh3.h"
#include "runtime/initial_weights.h"
#include "runtime/metrics/metrics_log.h"
#include "runtime/same_run.h"
#include "runtime/schedule.h"
#include "runtime/snapshot_ring.h"
#include "runtime/stability/monitor.h"
#include "runtime/stability/rewind_plan.h"
#include "runtime/step_folders.h"
#include "runtime/trained_model.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

constexpr size_t kMostDifferences = 5;

/// Checksums of what a rank holds, by name.
using Digests = std::map<std::string, uint64_t>;

uint64_t digest_of(Tensor x) { return xxh3({static_cast<const char*>(x.data), static_cast<size_t>(x.bytes())}); }

bool same_bits(double a, double b) { return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b); }

std::string all_digits(double value) { return fmt::format("{}", value); }

/// The number behind the last `words` of a line; nothing: it does not have them.
std::optional<int64_t> number_after(const std::string& line, const std::string& words) {
  const size_t at = line.rfind(words);
  int64_t number = 0;
  if (at == line.npos) return std::nullopt;
  std::from_chars(line.data() + at + words.size(), line.data() + line.size(), number);
  return number;
}

/// Which steps a run has gone back to, as its audit tells, but for what a session that ended early had not saved yet.
std::vector<int64_t> rewind_targets(const std::string& audit) {
  std::vector<int64_t> targets;
  std::ifstream in(audit);
  for (std::string line; std::getline(in, line) && !in.eof();) {
    const auto is = [&](const char* event) { return line.find(concat("\"event\":\"", event, "\"")) != line.npos; };
    if (is("rewind")) targets.push_back(number_after(line, "the run goes back to step ").value_or(0));
    const int64_t known = is("restart") ? 0 : is("resume") ? number_after(line, ", after rewind ").value_or(0) : -1;
    if (known >= 0) targets.resize(std::min(targets.size(), static_cast<size_t>(known)));
  }
  return targets;
}

class Replay {
 public:
  Replay(const TrainConfig& config, const std::string& run_dir, const Mesh& mesh, const RunData& data, Stream& s)
      : config_(config),
        training_(config_.training()),
        run_dir_(run_dir),
        mesh_(mesh),
        world_(mesh.world()),
        s_(s),
        model_(config_, mesh, data, s),
        monitor_(config_.stability()),
        rewinds_(config_.stability()) {}

  std::string run(int64_t step) {
    check_run();
    const int64_t from = load_before(step);
    agree(world_, [&] {
      if (world_.rank() != 0) return;
      read_log();
      ENSURE(!logged_.empty() && logged_.rbegin()->first >= step, "--replay-step ", step, ": ", run_dir_,
             " has not logged a step that late");
      check_rewinds(step);
    });
    SnapshotRing before(model_.train_step.optimizer(), 1);
    model_.batches.start_after(from, position_.dropped_samples);
    for (int64_t i = from + 1; i < step; ++i) take(i);
    before.take(s_, {step - 1});
    take(step);
    const Digests first = digests();
    before.restore(s_, step - 1);
    model_.train_step.share_weights();
    model_.train_step.wait_for_weights();
    model_.batches.start_after(step - 1, position_.dropped_samples);
    monitor_.restore(before_last_);
    take(step);
    compare(first, digests(), concat("step ", step, " run twice"));
    compare_with_checkpoint(step, first);
    agree(world_, [&] {
      ENSURE(differences_.empty(), "step ", step, " does not repeat: ", in_words(),
             changes_.empty() ? "" : "; the configuration was another: ", changes_);
    });
    return concat("step ", step, " from ", from_, ": ", compared_, " logged step(s) have the same losses and norms, ",
                  "weights and moments are the same when the step is run twice",
                  checkpoint_compared_ ? ", and those of its checkpoint" : "");
  }

 private:
  /// Fills weights and moments with what the run had before a step. Returns after which step that was.
  int64_t load_before(int64_t step) {
    fill_zero(s_, model_.state.weights);
    const int64_t from = newest_checkpoint(world_, run_dir_, step);
    if (from < 0) {
      agree(world_, [&] {
        ENSURE(!config_.has_initial_checkpoint(), "--replay-step ", step,
               " is before the first checkpoint, and the run began from an initial_checkpoint");
      });
      initialise_parameters(model_.state.records, static_cast<uint64_t>(training_.seed()), s_, model_.state.weights);
      from_ = "the initial weights";
      return 0;
    }
    from_ = step_folder(run_dir_, from);
    position_ = load(from_).position;
    agree(world_, [&] {
      monitor_.restore(position_.stability);
      rewinds_.restore(position_.stability.rewind());
    });
    return from;
  }

  ResumePoint load(const std::string& folder) {
    ResumePoint point;
    const std::string damage =
        load_checkpoint(folder, model_.identity, mesh_, model_.state, model_.train_step.optimizer(), point);
    if (!damage.empty()) throw AgreedError(world_.rank() == 0 ? damage : "", Fault::kUser);
    return point;
  }

  /// Throws unless the folder holds the run, as configured but for what a run may change.
  void check_run() {
    agree(world_, [&] {
      const std::string kept = run_dir_ + "/config.textproto";
      changes_ = check_same_run(parse_config(std::string(MappedFile(kept).bytes()), kept), config_, kept);
    });
  }

  /// Throws when the run went back to before the step, which the checkpoint knows nothing of: its samples were others.
  void check_rewinds(int64_t step) const {
    const std::vector<int64_t> targets = rewind_targets(run_dir_ + "/audit.jsonl");
    for (size_t i = static_cast<size_t>(position_.stability.rewind().rewinds()); i < targets.size(); ++i) {
      ENSURE(targets[i] >= step, "--replay-step ", step, ": the run went back to step ", targets[i], " after ", from_,
             "; choose a step after the next checkpoint");
    }
  }

  void read_log() {
    const std::string path = run_dir_ + "/metrics.jsonl";
    std::ifstream in(path);
    for (std::string line; std::getline(in, line) && !in.eof();) {
      const StepMetrics metrics = parse_metrics(line, path);
      logged_[metrics.step] = metrics;
    }
  }

  void take(int64_t step) {
    before_last_ = monitor_.state();
    const double lr = learning_rate(config_.optimizer(), training_.steps(), step) * rewinds_.lr_factor(step);
    const UpdateLimits limits{monitor_.skip_limit_of_loss(), monitor_.skip_limit_of_grad_norm()};
    const StepResult& result = model_.train_step.run(
        s_, step, lr, model_.batches.loss_scale(step), [&]() -> const Batch& { return model_.batches.next(); }, limits);
    for (const SignalSpike& spike : monitor_.see(step, result.losses.lm_loss, result.grad_norm)) {
      if (spike.action != SignalPolicy::REWIND) continue;
      const std::string message = concat("step ", step, " takes the run back: ", spike.in_words(),
                                         "; choose a --replay-step before it, or after the next checkpoint");
      throw AgreedError(world_.rank() == 0 ? message : "", Fault::kUser);
    }
    compare_with_log(step, result);
  }

  void compare_with_log(int64_t step, const StepResult& result) {
    const auto at = logged_.find(step);
    if (at == logged_.end()) return;
    const auto compare = [&](const char* name, double logged, double got) {
      if (std::isfinite(logged) && !same_bits(logged, got)) {
        differences_.push_back(
            concat(name, " of step ", step, " is ", all_digits(got), ", logged is ", all_digits(logged)));
      }
    };
    compare("loss", at->second.loss, result.losses.loss);
    compare("lm_loss", at->second.lm_loss, result.losses.lm_loss);
    compare("grad_norm", at->second.grad_norm, result.grad_norm);
    ++compared_;
    logged_.erase(at);
  }

  Digests digests() {
    model_.train_step.wait_for_weights();
    Digests digests;
    for (const ParameterRecord& r : model_.state.records) {
      digests[r.name + " weights"] = digest_of(model_.state.weights.rows(r.flat_begin, r.count));
      const Optimizer::Moments moments = model_.train_step.optimizer().moments(r);
      digests[r.name + " first moments"] = digest_of(moments.m);
      digests[r.name + " second moments"] = digest_of(moments.v);
    }
    return digests;
  }

  void compare(const Digests& expected, const Digests& got, const std::string& where) {
    for (const auto& [name, digest] : got) {
      if (expected.at(name) != digest) differences_.push_back(concat(where, ": ", name, " of rank ", world_.rank()));
    }
  }

  void compare_with_checkpoint(int64_t step, const Digests& digests_of_step) {
    checkpoint_compared_ = newest_checkpoint(world_, run_dir_, step + 1) == step;
    if (!checkpoint_compared_) return;
    const std::string folder = step_folder(run_dir_, step);
    load(folder);
    compare(digests(), digests_of_step, folder);
  }

  std::string in_words() const {
    std::string words;
    for (size_t i = 0; i < differences_.size() && i < kMostDifferences; ++i) {
      words += (i > 0 ? "; " : "") + differences_[i];
    }
    const size_t more = differences_.size() - std::min(differences_.size(), kMostDifferences);
    return more > 0 ? concat(words, "; and ", more, " more") : words;
  }

  const TrainConfig config_;
  const TrainingConfig& training_;
  const std::string run_dir_;
  const Mesh& mesh_;
  ProcessGroup& world_;
  Stream& s_;
  TrainedModel model_;
  StabilityMonitor monitor_;
  RewindPlan rewinds_;
  StabilityState before_last_;  // what the monitor knew before the last step
  SavedPosition position_;      // of the checkpoint
  std::string from_, changes_;
  std::map<int64_t, StepMetrics> logged_;  // on rank 0, of steps not compared yet
  int64_t compared_ = 0;
  bool checkpoint_compared_ = false;
  std::vector<std::string> differences_;
};

}  // namespace

std::string replay_step(const TrainConfig& config, const std::string& run_dir, int64_t step, ProcessGroup& world,
                        Stream& s) {
  const Mesh mesh(mesh_shape(config), world);
  std::optional<RunData> data;
  agree(world, [&] {
    ENSURE(step >= 1 && step <= config.training().steps(), "--replay-step ", step,
           " must be between 1 and training.steps=", config.training().steps());
    data.emplace(config);
  });
  return Replay(config, run_dir, mesh, *data, s).run(step);
}

}  // namespace sluice
