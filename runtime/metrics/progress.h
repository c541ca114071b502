#pragma once

#include <cstdint>
#include <string>

#include "runtime/metrics/step_metrics.h"

namespace sluice {

/// 42s, 3m05s, 2h07m, 4d03h.
std::string duration_text(double seconds);

/// step 120/600  loss 4.1234  lr 1.00e-03  grad 0.512  5310 tok/s  mfu 31.2%  eta 3m05s
std::string progress_text(const StepMetrics& metrics, int64_t total_steps, double eta_seconds);

/// Shows a run's progress on a file descriptor: one line that keeps changing on a terminal and is cut to its
/// width, but a line with an evaluation stays; lines elsewhere.
class Progress {
 public:
  Progress(int file_descriptor, int64_t total_steps);
  /// Leaves the terminal at the start of a fresh line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Each step. Elsewhere than on a terminal only the time of the step is noted.
  void step(const StepMetrics& metrics);
  /// Each logged step, after step(): a line elsewhere than on a terminal.
  void log(const StepMetrics& metrics);

 private:
  double eta_seconds(const StepMetrics& metrics) const;
  void put(const std::string& text) const;

  int file_;
  int64_t total_steps_;
  bool terminal_;
  bool line_open_ = false;
  double mean_step_ms_ = 0;  // moving average
};

}  // namespace sluice
