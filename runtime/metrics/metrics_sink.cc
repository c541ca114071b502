#include "runtime/metrics/metrics_sink.h"

#include <algorithm>

#include <fmt/format.h>
#include <glog/logging.h>

#include "kernels/core/error.h"
#include "runtime/metrics/metrics_log.h"

namespace sluice {
namespace {

int64_t first_step(const MetricsOptions& options) { return options.resumed_step ? options.resumed_step + 1 : 0; }

std::string prepared_log(const MetricsOptions& options) {
  std::string path = options.run_dir + "/metrics.jsonl";
  cut_metrics_log(path, first_step(options));
  return path;
}

std::string indented(const std::string& text) {
  std::string code = "    ";
  for (char c : text) code += c == '\n' ? "\n    " : std::string(1, c);
  return code;
}

}  // namespace

MetricsSink::MetricsSink(const MetricsOptions& options)
    : log_(prepared_log(options)),
      rewound_path_(options.run_dir + "/metrics.rewound.jsonl"),
      progress_(options.progress_descriptor, options.total_steps) {
  if (!options.tensorboard) return;
  events_ = std::make_unique<EventWriter>(options.run_dir);
  events_->start_session(first_step(options));
  if (!options.config_text.empty()) events_->text(options.resumed_step, "config", indented(options.config_text));
}

std::string MetricsSink::attempt(bool& failing, const std::function<void()>& write) {
  try {
    write();
    failing = false;
    return "";
  } catch (const Error& error) {
    if (!failing) LOG(WARNING) << error.what() << "; what is logged is kept until it can be written";
    failing = true;
    return error.what();
  }
}

std::string MetricsSink::sync() {
  const std::string log = attempt(log_failing_, [&] {
    write_lines();
    log_.sync();
  });
  const std::string events = events_ ? attempt(events_failing_, [&] { events_->flush(); }) : "";
  return log.empty() ? events : log;
}

void MetricsSink::go_back(int64_t step) {
  if (back_) {
    std::erase_if(after_back_, [&](const auto& line) { return line.first > step; });
    step = std::min(step, *back_);
  }
  back_ = step;
  attempt(log_failing_, [&] { write_lines(); });
  if (events_) attempt(events_failing_, [&] { events_->start_session(step + 1); });
}

void MetricsSink::write_lines() {
  log_.append("");
  if (!back_) return;
  cut_metrics_log(log_.path(), *back_ + 1, rewound_path_);
  back_.reset();
  std::string lines;
  for (const auto& [step, line] : std::exchange(after_back_, {})) lines += line;
  log_.append(lines);
}

void MetricsSink::sync_written() const {
  try {
    log_.sync_appended();
  } catch (const Error& error) {
    LOG(WARNING) << error.what();
  }
}

void MetricsSink::log(const StepMetrics& metrics) {
  attempt(log_failing_, [&] {
    const std::string line = metrics_json(metrics) + "\n";
    if (!back_) return log_.append(line);
    after_back_.emplace_back(metrics.step, line);
    write_lines();
  });
  progress_.log(metrics);
  if (events_) log_events(metrics);
}

void MetricsSink::log_events(const StepMetrics& metrics) {
  EventWriter::Scalars scalars{{"tokens", static_cast<double>(metrics.tokens)}};
  for_each_scalar(metrics, [&](const std::string& name, double value) { scalars.emplace_back(name, value); });
  for_each_layer_array(metrics.layers, [&](const char* name, const std::vector<double>& values) {
    for (size_t layer = 0; layer < values.size(); ++layer) {
      scalars.emplace_back(fmt::format("{}/layer_{:02}", name, layer), values[layer]);
    }
  });
  attempt(events_failing_, [&] { events_->scalars(metrics.step, scalars); });
  for_each_layer_array(metrics.layers, [&](const char* name, const std::vector<double>& values) {
    attempt(events_failing_, [&] { events_->histogram(metrics.step, fmt::format("layers/{}", name), values); });
  });
  for (const ScoreHistogram& scores : metrics.gate_scores) {
    attempt(events_failing_, [&] { events_->histogram(metrics.step, scores); });
  }
}

}  // namespace sluice
