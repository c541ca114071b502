#include "runtime/train.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include <glog/logging.h>

#include "kernels/elementwise.h"
#include "kernels/peak.h"
#include "models/count.h"
#include "parallel/agree.h"
#include "parallel/observer_list.h"
#include "parallel/traffic.h"
#include "runtime/config.h"
#include "runtime/data/prefetcher.h"
#include "runtime/diagnostics.h"
#include "runtime/evaluate.h"
#include "runtime/initial_weights.h"
#include "runtime/metrics/audit_log.h"
#include "runtime/metrics/metrics_sink.h"
#include "runtime/resume.h"
#include "runtime/run_data.h"
#include "runtime/run_folder.h"
#include "runtime/run_watch.h"
#include "runtime/save.h"
#include "runtime/schedule.h"
#include "runtime/skip_guard.h"
#include "runtime/step.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// One training run, from initial weights or a checkpoint to the checkpoint at the end.
class TrainingRun {
 public:
  TrainingRun(const TrainConfig& config, const std::string& run_dir, const Mesh& mesh, RunWatch& watch, Stream& s,
              PhaseTimer& startup)
      : config_(config),
        training_(config_.training()),
        run_dir_(run_dir),
        mesh_(mesh),
        watch_(watch),
        world_(mesh.world()),
        s_(s),
        startup_(startup),
        diagnostics_(config_.model(), mesh, DiagnosticsProbe::Detail::kCheap),
        skips_(run_dir, world_.rank() == 0),
        step_observers_(observers()) {
    agree(world_, [&] {
      if (world_.rank() == 0) {
        create_run_folder(run_dir_);
        lock_.emplace(run_dir_);
      }
      data_ = std::make_unique<RunData>(config_);
    });
    startup_.mark("data");
    make_model();
    fill_model();
    startup_.mark("model");
    if (complete()) return;
    open_logs();
    startup_.mark("logs");
  }

  void run() {
    if (complete()) {
      LOG(INFO) << run_dir_ << " is complete, its newest checkpoint is of step " << steps_behind()
                << "; a training.steps above that would go on";
      return;
    }
    Prefetcher prefetcher(
        data_->training(), [this](int64_t i) { return micro_step_samples(i); }, 0, config_.data().prefetch());
    try {
      for (int64_t step = steps_behind() + 1; step <= training_.steps(); ++step) take_step(step, prefetcher);
    } catch (const AgreedError& error) {
      // All leave in good order, unless their calls have come apart.
      if (error.fault() != Fault::kHang) train_step_->wait_for_weights();
      throw;
    }
    if (last_save_) throw AgreedError(*last_save_, Fault::kNotSaved);
  }

 private:
  void make_model() {
    const DType dtype = compute_dtype(config_.precision());
    model_ = std::make_unique<ModelState>(config_.model(), config_.optimizer().decay_embeddings(), dtype, mesh_.shape(),
                                          world_.rank());
    transformer_ =
        std::make_unique<Transformer>(config_.model(), training_, dtype, training_.sequence_length(), model_->state);
    train_step_ = std::make_unique<TrainStep>(config_, *transformer_, *model_, mesh_, s_);
    train_step_->set_listener(&watch_);
  }

  /// Weights and moments from the run's newest checkpoint, or those that a new run starts from.
  void fill_model() {
    // The padding.
    fill_zero(s_, model_->weights);
    const RunIdentity identity{config_, data_->tokenizer_text(), s_.isa};
    // Ranks read for as long as their files take.
    watch_.saving([&] { resumed_ = resume(run_dir_, identity, mesh_, *model_, train_step_->optimizer()); });
    if (resumed_) return;
    agree(world_, [&] {
      if (world_.rank() == 0) restart_reason_ = restart_reason(run_dir_, config_);
    });
    initialise_parameters(model_->records, static_cast<uint64_t>(training_.seed()), s_, model_->weights);
    if (config_.has_initial_checkpoint()) load_initial();
  }

  void load_initial() {
    const InitialCheckpoint& from = config_.initial_checkpoint();
    std::vector<std::string> missing;
    watch_.saving([&] {
      agree(world_, [&] {
        missing = load_initial_weights(from, config_.model(), *model_);
        if (from.load() == InitialCheckpoint::ALL) load_initial_moments(from, *model_, train_step_->optimizer());
      });
    });
    if (world_.rank() != 0) return;
    for (const std::string& name : missing) LOG(INFO) << name << " starts as in a new model";
  }

  /// Once nothing speaks against the run any more.
  void open_logs() {
    flops_per_token_ = train_flops_per_token(config_.model(), training_.sequence_length());
    peak_flops_ = measure_peak_flops(s_) * world_.size();
    agree(world_, [&] {
      if (world_.rank() != 0) return;
      keep_config(run_dir_, config_);
      note_beginning();
      MetricsOptions options;
      options.run_dir = run_dir_;
      options.total_steps = training_.steps();
      options.resumed_step = steps_behind();
      options.tensorboard = config_.logging().tensorboard();
      options.config_text = config_text(config_);
      metrics_ = std::make_unique<MetricsSink>(options);
    });
  }

  /// Tells and notes why the run does not begin as a new one.
  void note_beginning() const {
    if (resumed_) {
      const std::string from = "from " + step_folder(run_dir_, resumed_->step);
      const std::string reason = resumed_->changes.empty() ? from : from + "; " + resumed_->changes;
      LOG(INFO) << "the run goes on " << reason;
      append_audit(run_dir_, resumed_->step, "resume", reason);
    } else if (restart_reason_) {
      LOG(INFO) << "the run starts over: " << *restart_reason_;
      append_audit(run_dir_, 0, "restart", *restart_reason_);
      set_metrics_aside(run_dir_);
    }
  }

  /// Steps that earlier sessions of the run have done.
  int64_t steps_behind() const { return resumed_ ? resumed_->step : 0; }
  bool complete() const { return steps_behind() >= training_.steps(); }

  std::vector<GroupObserver*> observers() {
    std::vector<GroupObserver*> all = watch_.step_observers();
    all.push_back(&traffic_);
    return all;
  }

  int64_t micro_step_sequences() const { return training_.micro_batch_size() * mesh_.shape().dp; }

  /// Samples that this rank computes with its tp group in micro-step `index` of this session, whose layout may be
  /// another than that of the steps behind it.
  SampleRange micro_step_samples(int64_t index) const {
    const int64_t behind = samples_before(training_, steps_behind() + 1);
    return {behind + index * micro_step_sequences() + mesh_.place().dp * training_.micro_batch_size(),
            training_.micro_batch_size()};
  }

  LossScale loss_scale(int64_t step) const {
    const int64_t sequences = batch_size(training_, step);
    LossScale scale;
    // A step may meet only documents of one token.
    scale.step_targets =
        std::max<int64_t>(data_->training().count_targets(samples_before(training_, step), sequences), 1);
    scale.micro_step_tokens = micro_step_sequences() * training_.sequence_length();
    scale.micro_steps = sequences / micro_step_sequences();
    return scale;
  }

  void take_step(int64_t step, Prefetcher& prefetcher) {
    const Clock::time_point start = Clock::now();
    traffic_.reset();
    watch_.begin_step(step);
    mesh_.observe(&step_observers_);
    const LossScale scale = loss_scale(step);
    const double lr = learning_rate(config_.optimizer(), training_.steps(), step);
    train_step_->set_probe(logged(step) ? &diagnostics_ : nullptr, 1);
    const StepResult& result =
        train_step_->run(s_, step, lr, scale, [&]() -> const Batch& { return prefetcher.next(); });
    watch_.end_step();
    mesh_.observe(watch_.observer());
    watch_.compare_calls(world_);
    StepMetrics metrics = step_metrics(step, lr, scale, result, ms_since(start));
    if (logged(step)) add_diagnostics(diagnostics_.finish(), metrics);
    if (step == steps_behind() + 1) {
      startup_.mark("first step");
      if (world_.rank() == 0) std::fprintf(stderr, "start-up: %s\n", startup_.summary().c_str());
    }
    skips_.see(step, result);
    if (due(step, config_.data().eval_every())) evaluate(metrics);
    // Before the checkpoint: a run that goes on from it does not log this step again.
    if (metrics_) log(metrics);
    if (due(step, config_.checkpoint().every())) {
      if (metrics_) metrics_->sync();
      watch_.saving([&] { save(step); });
    }
    skips_.check();
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

  StepMetrics step_metrics(int64_t step, double lr, const LossScale& scale, const StepResult& result,
                           double step_ms) const {
    const double step_tokens = static_cast<double>(scale.micro_step_tokens * scale.micro_steps);
    StepMetrics metrics;
    metrics.step = step;
    metrics.tokens = samples_before(training_, step + 1) * training_.sequence_length();
    metrics.loss = result.losses.loss;
    metrics.lm_loss = result.losses.lm_loss;
    if (config_.model().has_moe()) {
      metrics.balance_loss = result.losses.balance_loss;
      metrics.z_loss = result.losses.z_loss;
    }
    metrics.grad_norm = result.grad_norm;
    metrics.lr = lr;
    metrics.skipped = result.skipped;
    metrics.step_ms = step_ms;
    metrics.tokens_per_s = step_tokens / (step_ms * 1e-3);
    metrics.mfu = metrics.tokens_per_s * flops_per_token_ / peak_flops_;
    if (world_.size() > 1) metrics.communication_ms = traffic_.total().seconds * 1e3;
    metrics.layers.expert_load_max_over_mean = result.expert_load_max_over_mean;
    metrics.layers.router_entropy = result.router_entropy;
    return metrics;
  }

  /// What happens every so many steps (0: never) happens at the end too.
  bool due(int64_t step, int64_t every) const { return step == training_.steps() || (every > 0 && step % every == 0); }

  void evaluate(StepMetrics& metrics) {
    train_step_->wait_for_weights();
    for (const RunData::EvaluationSet& set : data_->evaluation()) {
      const EvaluationResult result =
          evaluate_set(s_, mesh_, *transformer_, model_->weight_tensors, set.data, training_.micro_batch_size(),
                       config_.data().eval_windows(), evaluation_memory_);
      metrics.eval_loss[set.name] = result.loss();
    }
  }

  /// Saves, or tells that it could not: a later checkpoint may succeed, and without one the metrics are worth having.
  void save(int64_t step) {
    try {
      write_checkpoint(step);
    } catch (const AgreedError& error) {
      if (error.fault() != Fault::kUser) throw;
      if (step == training_.steps()) {
        last_save_ = error.what();
      } else if (*error.what()) {
        // Of a rank that is not the first a warning would not be seen.
        LOG(ERROR) << "step " << step << ": no checkpoint: " << error.what();
      }
      if (world_.rank() == 0) append_audit(run_dir_, step, "checkpoint_failed", error.what());
    }
  }

  void write_checkpoint(int64_t step) {
    train_step_->wait_for_weights();
    SavedState saved{config_,
                     *model_,
                     train_step_->optimizer(),
                     mesh_,
                     data_->tokenizer_text(),
                     step,
                     samples_before(training_, step + 1),
                     s_.isa};
    save_checkpoint(run_dir_, saved);
    if (world_.rank() == 0) remove_old_checkpoints(run_dir_, config_.checkpoint().keep());
  }

  const TrainConfig config_;
  const TrainingConfig& training_;
  const std::string run_dir_;
  const Mesh& mesh_;
  RunWatch& watch_;
  ProcessGroup& world_;
  Stream& s_;
  PhaseTimer& startup_;
  std::optional<RunLock> lock_;  // of rank 0
  std::unique_ptr<RunData> data_;
  std::unique_ptr<ModelState> model_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<TrainStep> train_step_;
  std::optional<ResumePoint> resumed_;
  std::optional<std::string> restart_reason_;  // on rank 0
  std::unique_ptr<MetricsSink> metrics_;
  ActivationMemory evaluation_memory_;
  DiagnosticsProbe diagnostics_;
  SkipGuard skips_;
  std::optional<std::string> last_save_;  // why the checkpoint at the end was not written; empty on most ranks
  double flops_per_token_ = 0, peak_flops_ = 0;
  TrafficMeter traffic_;
  ObserverList step_observers_;
};

}  // namespace

void train(const TrainConfig& config, const std::string& run_dir, ProcessGroup& world, Stream& s, PhaseTimer& startup) {
  const Mesh mesh(mesh_shape(config), world);
  startup.mark("groups");
  RunWatch watch(config, mesh);
  watch.guard([&] {
    mesh.observe(watch.observer());
    TrainingRun(config, run_dir, mesh, watch, s, startup).run();
    mesh.observe(nullptr);
  });
}

}  // namespace sluice
