#include "runtime/metrics/metrics_sink.h"

#include <fmt/format.h>

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
    : log_(prepared_log(options)), progress_(options.progress_descriptor, options.total_steps) {
  if (!options.tensorboard) return;
  events_ = std::make_unique<EventWriter>(options.run_dir);
  events_->start_session(first_step(options));
  if (!options.config_text.empty()) events_->text(options.resumed_step, "config", indented(options.config_text));
}

void MetricsSink::log(const StepMetrics& metrics) {
  log_.append(metrics_json(metrics) + "\n");
  progress_.log(metrics);
  if (!events_) return;
  EventWriter::Scalars scalars{{"tokens", static_cast<double>(metrics.tokens)}};
  for_each_scalar(metrics, [&](const std::string& name, double value) { scalars.emplace_back(name, value); });
  for_each_layer_array(metrics.layers, [&](const char* name, const std::vector<double>& values) {
    for (size_t layer = 0; layer < values.size(); ++layer) {
      scalars.emplace_back(fmt::format("{}/layer_{:02}", name, layer), values[layer]);
    }
  });
  events_->scalars(metrics.step, scalars);
  for_each_layer_array(metrics.layers, [&](const char* name, const std::vector<double>& values) {
    events_->histogram(metrics.step, fmt::format("layers/{}", name), values);
  });
  for (const ScoreHistogram& scores : metrics.gate_scores) events_->histogram(metrics.step, scores);
}

}  // namespace sluice
