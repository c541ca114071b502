#include "runtime/train.h"

#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include <glog/logging.h>

#include "kernels/peak.h"
#include "models/count.h"
#include "parallel/agree.h"
#include "parallel/observer_list.h"
#include "parallel/traffic.h"
#include "runtime/config.h"
#include "runtime/diagnostics.h"
#include "runtime/evaluate.h"
#include "runtime/grace_time.h"
#include "runtime/metrics/audit_log.h"
#include "runtime/metrics/metrics_log.h"
#include "runtime/metrics/metrics_sink.h"
#include "runtime/rewinder.h"
#include "runtime/run_folder.h"
#include "runtime/run_start.h"
#include "runtime/run_watch.h"
#include "runtime/save.h"
#include "runtime/schedule.h"
#include "runtime/skip_guard.h"
#include "runtime/spike_watch.h"
#include "runtime/step_folders.h"
#include "runtime/step_metrics.h"
#include "runtime/stop_agreement.h"
#include "runtime/trained_model.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

/// One training run, from initial weights or a checkpoint to the checkpoint at the end.
class TrainingRun {
 public:
  TrainingRun(const TrainConfig& config, const std::string& run_dir, const Mesh& mesh, RunWatch& watch, Stream& s,
              PhaseTimer& startup, RunHooks& hooks)
      : config_(config),
        training_(config_.training()),
        run_dir_(run_dir),
        mesh_(mesh),
        watch_(watch),
        world_(mesh.world()),
        s_(s),
        startup_(startup),
        hooks_(hooks),
        stop_(world_, [&hooks] { return hooks.stop_asked(); }),
        step_listeners_({&watch_, &stop_, &hooks_}),
        diagnostics_(config_.model(), mesh, DiagnosticsProbe::Detail::kCheap),
        skips_(run_dir, config_.stability().most_skips_in_a_row(), world_.rank() == 0),
        step_observers_(observers()) {
    agree(world_, [&] {
      if (world_.rank() != 0) return;
      create_run_folder(run_dir_);
      lock_.emplace(run_dir_);
    });
    wait_for_lock(lock_ ? &*lock_ : nullptr, run_dir_, world_, [this] { heed_stop(); });
    agree(world_, [&] {
      if (world_.rank() == 0) settle_replaced(run_dir_);
    });
    agree(world_, [&] { data_ = std::make_unique<RunData>(config_); });
    end_phase("data");
    model_ = std::make_unique<TrainedModel>(config_, mesh_, *data_, s_);
    model_->train_step.set_listener(&step_listeners_);
    spikes_.emplace(config_.stability(), mesh_, *model_);
    rewinder_.emplace(RewoundRun{run_dir_, model_->identity, mesh_, model_->state, model_->train_step});
    read_model();
    if (start_.resumed) {
      agree(world_, [&] { rewinder_->restore(start_.position.stability.rewind()); });
      go_on_from(start_.position);
    }
    end_phase("model");
    if (complete()) return;
    rewinder_->keep(s_, position());
    saver_ =
        std::make_unique<CheckpointSaver>(SavedRun{run_dir_, config_, model_->state, model_->train_step.optimizer(),
                                                   mesh_, data_->tokenizer_text(), data_->state(), [this] {
                                                     if (metrics_) metrics_->sync_written();
                                                   }});
    grace_.emplace(world_.rank() == 0,
                   probe_checkpoints(run_dir_, config_, position_.step, saver_->shard_bytes(), world_));
    if (start_.resumed) saver_->set_saved_step(position_.step);
    saver_->take_memory();
    open_logs();
    end_phase("logs");
  }

  void run() {
    if (complete()) {
      LOG(INFO) << run_dir_ << " is complete, its newest checkpoint is of step " << position_.step
                << "; a training.steps above that would go on";
      return;
    }
    model_->batches.start_after(position_.step, position_.dropped_samples);
    try {
      if (!position_.unlogged.empty()) finish_last_step();
      while (!complete()) take_step(position_.step + 1);
    } catch (const AgreedError& error) {
      if (error.fault() == Fault::kPreempted) {
        save_for_later();
      } else if (error.fault() != Fault::kHang) {
        // All leave in good order, unless their calls have come apart.
        stop_.settle();
        model_->train_step.wait_for_weights();
        finish_saving();
      }
      throw;
    }
    finish_saving();
    const std::string lost = broadcast_string(world_, metrics_ ? metrics_->sync() : "");
    const std::string failure = saver_->failure().empty() ? lost : saver_->failure();
    if (!failure.empty()) throw AgreedError(world_.rank() == 0 ? failure : "", Fault::kNotSaved);
  }

 private:
  void read_model() {
    try {
      start_ = fill_model(run_dir_, mesh_, watch_, *model_, s_, [this] { return hooks_.stop_asked(); });
    } catch (const AgreedError& error) {
      if (error.fault() == Fault::kPreempted) heed_stop();
      throw;
    }
  }

  /// Weights and moments are those of a position.
  void go_on_from(const SavedPosition& position) {
    agree(world_, [&] { spikes_->go_on_from(position.step, position.stability); });
    skips_.set_in_a_row(position.stability.skips_in_a_row());
    position_ = position;
  }

  /// Once nothing speaks against the run any more.
  void open_logs() {
    flops_per_token_ = train_flops_per_token(config_.model(), training_.sequence_length());
    peak_flops_ = measure_peak_flops(s_) * world_.size();
    agree(world_, [&] {
      if (world_.rank() != 0) return;
      keep_config(run_dir_, config_);
      start_.note(run_dir_);
      MetricsOptions options;
      options.run_dir = run_dir_;
      options.total_steps = training_.steps();
      options.resumed_step = position_.unlogged.empty() ? position_.step : position_.step - 1;
      options.tensorboard = config_.logging().tensorboard();
      options.config_text = config_text(config_);
      metrics_ = std::make_unique<MetricsSink>(options);
    });
  }

  bool complete() const { return position_.step >= training_.steps() && position_.unlogged.empty(); }

  void end_phase(const char* name) {
    startup_.mark(name);
    heed_stop();
  }

  /// During the start, when all is saved that there is.
  void heed_stop() {
    if (!stop_.asked()) return;
    const int64_t newest = newest_step();
    const bool saved = newest >= 0;
    if (saved) LOG(INFO) << "stopped by a signal before the first step";
    if (saved && lock_ && lock_->held()) {
      append_audit(run_dir_, newest, "preempted", "before the first step of a session");
    }
    const bool speaks = world_.rank() == 0 && !saved;
    throw AgreedError(speaks ? "stopped by a signal before there was anything to save" : "",
                      saved ? Fault::kPreempted : Fault::kUser);
  }

  std::vector<GroupObserver*> observers() {
    std::vector<GroupObserver*> all = watch_.step_observers();
    all.push_back(&traffic_);
    return all;
  }

  void take_step(int64_t step) {
    const auto start = PhaseTimer::Clock::now();
    if (!startup_told_) stop_.begin_pacing();
    traffic_.reset();
    watch_.begin_step(step);
    mesh_.observe(&step_observers_);
    const LossScale scale = model_->batches.loss_scale(step);
    const double scheduled_lr = learning_rate(config_.optimizer(), training_.steps(), step);
    const double lr = hooks_.learning_rate(step, scheduled_lr * rewinder_->lr_factor(step));
    const bool seen_closely = logged(step) || step % config_.stability().indicators().every() == 0;
    model_->train_step.set_probe(seen_closely ? &diagnostics_ : nullptr, 1);
    spikes_->begin_step(s_, seen_closely);
    hooks_.before_step(step, model_->state, model_->train_step);
    const StepResult& result = model_->train_step.run(
        s_, step, lr, scale, [&]() -> const Batch& { return hooks_.batch(step, model_->batches.next()); },
        spikes_->limits());
    watch_.end_step();
    mesh_.observe(watch_.observer());
    watch_.compare_calls(world_);
    StepMetrics metrics = step_metrics(config_, step, lr, result);
    add_speed(scale, PhaseTimer::ms_since(start), metrics);
    if (seen_closely) add_diagnostics(diagnostics_.finish(), metrics);
    tell_startup();
    const std::vector<SignalSpike> spikes = spikes_->see(metrics, result);
    const int64_t skips_in_a_row = result.skipped ? skips_.in_a_row() + 1 : 0;
    if (rewinder_->wanted(spikes, skips_in_a_row)) {
      if (metrics_) log(metrics);
      return rewind(step, spikes, skips_in_a_row);
    }
    skips_.see(step, result, spikes);
    position_.step = step;
    if (rewinder_->due(step)) rewinder_->keep(s_, position());
    if (due(step, config_.checkpoint().every())) watch_.saving([&] { begin_saving(step); });
    finish_step(metrics);
    // The checkpoint exists from poll() on at the earliest: a run that goes on from it does not log this step again.
    saver_->poll();
    grace_->see(2 * stop_.longest_s(), saver_->slowest_s());
    skips_.check(hooks_.why_diverged(metrics));
  }

  /// Evaluates, if it is time, and logs a step.
  void finish_step(StepMetrics& metrics) {
    if (due(metrics.step, config_.data().eval_every())) {
      position_.unlogged = metrics_json(metrics);
      evaluate(metrics);
      position_.unlogged.clear();
    }
    if (metrics_) log(metrics);
  }

  /// Where an earlier session was stopped in an evaluation.
  void finish_last_step() {
    StepMetrics metrics = parse_metrics(position_.unlogged, step_folder(run_dir_, position_.step) + ": unlogged");
    finish_step(metrics);
    position_.unlogged.clear();
  }

  /// Once, after the first step.
  void tell_startup() {
    if (std::exchange(startup_told_, true)) return;
    startup_.mark("first step");
    if (world_.rank() == 0) std::fprintf(stderr, "start-up: %s\n", startup_.summary().c_str());
    stop_.pace();
    grace_->tell(2 * stop_.longest_s());
  }

  /// All ranks have left a step before its update, or an evaluation, since one was asked to stop: the position that
  /// they had before is saved.
  void save_for_later() {
    watch_.end_step();
    mesh_.observe(watch_.observer());
    watch_.saving([&] {
      model_->train_step.abandon();
      const int64_t step = position_.step;
      if (saver_->step_in_flight() == step && !position_.unlogged.empty()) saver_->set_unlogged(position_.unlogged);
      if (saver_->step_in_flight() != step && !is_saved()) begin_saving(CheckpointSaver::After::kNothingChanges);
      saver_->finish();
    });
    const std::string lost = broadcast_string(world_, metrics_ ? metrics_->sync() : "");
    std::string failure = is_saved() ? lost : saver_->failure();
    if (const int64_t newest = newest_step(); failure.empty() && newest > position_.step) {
      failure = concat("a later start would go on from step ", newest, ", which the run has gone back behind");
    }
    if (!failure.empty()) throw AgreedError(world_.rank() == 0 ? failure : "", Fault::kNotSaved);
    if (world_.rank() != 0) return;
    const std::string saved = "stopped by a signal; the run goes on from " + step_folder(run_dir_, position_.step);
    LOG(INFO) << saved;
    append_audit(run_dir_, position_.step, "preempted", saved);
  }

  /// Of the checkpoints on disk; -1: there are none.
  int64_t newest_step() const { return newest_checkpoint(world_, run_dir_); }
  bool is_saved() const { return saver_->saved_step() == position_.step; }

  /// Goes on from before the spikes of a step, with the samples after it.
  void rewind(int64_t step, const std::vector<SignalSpike>& spikes, int64_t skips_in_a_row) {
    watch_.saving([&] {
      saver_->finish();
      go_on_from(rewinder_->go_back(s_, {step, position_.dropped_samples}, spikes, skips_in_a_row));
      saver_->go_back(position_.step);
      // Checkpoints of later steps are no longer of this run: with this one they go. Until then they need their
      // metrics.
      if (newest_step() > position_.step) {
        begin_saving(position_.step);
        saver_->finish();
      }
      if (metrics_) metrics_->go_back(position_.step);
    });
    model_->batches.start_after(position_.step, position_.dropped_samples);
  }

  /// Whether a step is logged whatever it does.
  bool logged(int64_t step) const {
    return step == 1 || step % config_.logging().every() == 0 || step == training_.steps();
  }

  void log(const StepMetrics& metrics) {
    const int64_t step = metrics.step;
    metrics_->step(metrics);
    if (logged(step) || metrics.skipped || !metrics.eval_loss.empty()) metrics_->log(metrics);
  }

  void add_speed(const LossScale& scale, double step_ms, StepMetrics& metrics) const {
    metrics.step_ms = step_ms;
    metrics.tokens_per_s = static_cast<double>(scale.micro_step_tokens * scale.micro_steps) / (step_ms * 1e-3);
    metrics.mfu = metrics.tokens_per_s * flops_per_token_ / peak_flops_;
    if (world_.size() > 1) metrics.communication_ms = traffic_.total().seconds * 1e3;
  }

  /// What happens every so many steps (0: never) happens at the end too.
  bool due(int64_t step, int64_t every) const { return step == training_.steps() || (every > 0 && step % every == 0); }

  void evaluate(StepMetrics& metrics) {
    model_->train_step.wait_for_weights();
    EvaluationOptions options;
    options.windows_at_a_time = training_.micro_batch_size();
    options.max_windows = config_.data().eval_windows();
    options.hooks = &stop_;
    for (const RunData::EvaluationSet& set : data_->evaluation()) {
      const EvaluationResult result = evaluate_set(s_, mesh_, model_->transformer, model_->state.weight_tensors,
                                                   set.data, options, evaluation_memory_);
      metrics.eval_loss[set.name] = result.loss();
    }
  }

  void begin_saving(int64_t step) {
    begin_saving(step == training_.steps() ? CheckpointSaver::After::kNothingChanges
                                           : CheckpointSaver::After::kTrainingGoesOn);
  }
  void begin_saving(CheckpointSaver::After after) {
    model_->train_step.wait_for_weights();
    saver_->begin(s_, position(), after);
  }

  /// How far the run is, with all that it has learnt.
  SavedPosition position() const {
    SavedPosition position{position_.step, position_.dropped_samples, spikes_->state(), position_.unlogged};
    position.stability.set_skips_in_a_row(skips_.in_a_row());
    *position.stability.mutable_rewind() = rewinder_->state();
    return position;
  }

  void finish_saving() {
    watch_.saving([&] { saver_->finish(); });
  }

  const TrainConfig config_;
  const TrainingConfig& training_;
  const std::string run_dir_;
  const Mesh& mesh_;
  RunWatch& watch_;
  ProcessGroup& world_;
  Stream& s_;
  PhaseTimer& startup_;
  RunHooks& hooks_;
  StopAgreement stop_;
  StageHooksList step_listeners_;
  bool startup_told_ = false;
  SavedPosition position_;       // without what has been learnt since it began
  std::optional<RunLock> lock_;  // of rank 0
  std::unique_ptr<RunData> data_;
  std::unique_ptr<TrainedModel> model_;
  RunStart start_;
  std::optional<SpikeWatch> spikes_;
  std::unique_ptr<MetricsSink> metrics_;    // of rank 0; what the saver writes waits for it
  std::unique_ptr<CheckpointSaver> saver_;  // whose threads end before all above
  std::optional<GraceTime> grace_;
  std::optional<Rewinder> rewinder_;
  ActivationMemory evaluation_memory_;
  DiagnosticsProbe diagnostics_;
  SkipGuard skips_;
  double flops_per_token_ = 0, peak_flops_ = 0;
  TrafficMeter traffic_;
  ObserverList step_observers_;
};

}  // namespace

void train(const TrainConfig& config, const std::string& run_dir, ProcessGroup& world, Stream& s, PhaseTimer& startup,
           RunHooks* hooks) {
  std::exception_ptr end;
  {
    const Mesh mesh(mesh_shape(config), world);
    startup.mark("groups");
    RunWatch watch(config, mesh);
    watch.guard([&] {
      mesh.observe(watch.observer());
      RunHooks none;
      TrainingRun run(config, run_dir, mesh, watch, s, startup, hooks ? *hooks : none);
      end = orderly_end([&] { run.run(); });
      mesh.observe(nullptr);
    });
  }
  if (end) std::rethrow_exception(end);
}

}  // namespace sluice
