#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/files/append_file.h"
#include "runtime/metrics/step_metrics.h"

namespace sluice {

namespace tensorboard {
class Event;
}

/// A TensorBoard event file of its own in a run directory. Every call writes one record, at once visible to readers.
class EventWriter {
 public:
  using Scalars = std::vector<std::pair<std::string, double>>;

  /// Creates DIR/events.out.tfevents.<seconds>.<host>.<pid>.
  explicit EventWriter(const std::string& dir);

  const std::string& path() const { return file_.path(); }
  /// Tells readers that this run starts at `first_step`: what earlier files hold from there on no longer counts.
  void start_session(int64_t first_step);
  void scalars(int64_t step, const Scalars& values);
  /// Histogram of the finite values, in 30 equal buckets from the smallest to the largest. None: nothing is written.
  void histogram(int64_t step, const std::string& tag, std::span<const double> values);
  /// Histogram of scores that are already in bins. Nothing counted: nothing is written.
  void histogram(int64_t step, const ScoreHistogram& scores);
  /// A text (Markdown) for the Text tab.
  void text(int64_t step, const std::string& tag, const std::string& markdown);
  /// Writes what could not be written before.
  void flush() { file_.append(""); }

 private:
  void write(tensorboard::Event& event, int64_t step);

  AppendFile file_;
};

}  // namespace sluice
