#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/files/append_file.h"
#include "runtime/metrics/event_writer.h"
#include "runtime/metrics/progress.h"
#include "runtime/metrics/step_metrics.h"

namespace sluice {

struct MetricsOptions {
  std::string run_dir{};      ///< exists
  int64_t total_steps = 0;    ///< of the whole run
  int64_t resumed_step = 0;   ///< steps that a resumed run has behind it; 0: a new run
  bool tensorboard = true;    ///< write an event file
  std::string config_text{};  ///< shown in TensorBoard's Text tab
  int progress_descriptor = 2;
};

/// Where rank 0 sends what it measured: RUN/metrics.jsonl, an event file, the progress line. Each call is complete when
/// it returns. Throws Error naming the file that cannot be written.
class MetricsSink {
 public:
  /// A resumed run forgets what the files hold behind resumed_step.
  explicit MetricsSink(const MetricsOptions& options);

  /// Each step: the progress line on a terminal.
  void step(const StepMetrics& metrics) { progress_.step(metrics); }
  /// Each logged step, after step(): metrics.jsonl, the event file, and a progress line elsewhere than on a terminal.
  void log(const StepMetrics& metrics);
  /// Waits until metrics.jsonl is on disk.
  void sync() { log_.sync(); }

 private:
  AppendFile log_;
  std::unique_ptr<EventWriter> events_;
  Progress progress_;
};

}  // namespace sluice
