#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
/// it returns. What cannot be written is warned of, kept, and written later.
class MetricsSink {
 public:
  /// A resumed run forgets what the files hold behind resumed_step. Throws Error naming the file that cannot be
  /// written.
  explicit MetricsSink(const MetricsOptions& options);

  /// Each step: the progress line on a terminal.
  void step(const StepMetrics& metrics) { progress_.step(metrics); }
  /// Each logged step, after step(): metrics.jsonl, the event file, and a progress line elsewhere than on a terminal.
  void log(const StepMetrics& metrics);
  /// The run goes on from a step that is behind it: what is logged of later ones moves to RUN/metrics.rewound.jsonl,
  /// and the event file says so.
  void go_back(int64_t step);
  /// Waits until metrics.jsonl is on disk, and writes what the event file lacks. Returns why they are not whole; empty:
  /// they are.
  std::string sync();
  /// Waits until those lines of metrics.jsonl are on disk that could be written; from any thread.
  void sync_written() const;

 private:
  /// What is waiting. Throws what prevents it.
  void write_lines();
  void log_events(const StepMetrics& metrics);
  /// Calls `write`. Returns why it failed, after a warning unless it was so already.
  static std::string attempt(bool& failing, const std::function<void()>& write);

  AppendFile log_;
  const std::string rewound_path_;
  std::optional<int64_t> back_;                              // a cut that could not be made yet,
  std::vector<std::pair<int64_t, std::string>> after_back_;  // and lines, by step, that come after it
  std::unique_ptr<EventWriter> events_;
  Progress progress_;
  bool log_failing_ = false, events_failing_ = false;
};

}  // namespace sluice
