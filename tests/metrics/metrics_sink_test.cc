#include "runtime/metrics/metrics_sink.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/metrics/files.h"

namespace sluice {
namespace {

using testing_metrics::contents;
using testing_metrics::fresh_dir;

std::vector<tensorboard::Event> events_in(const std::string& dir) {
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents."))
      return testing_metrics::read_events(entry.path());
  }
  return {};
}

StepMetrics sample_step(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 1.0 / static_cast<double>(step);
  metrics.layers.grad_norm = {0.25, 0.5};
  return metrics;
}

TEST(MetricsSink, WritesTheSameNumbersToTheLogAndTheEventFile) {
  const std::string dir = fresh_dir();
  MetricsSink sink({.run_dir = dir, .total_steps = 3, .config_text = "steps: 3", .progress_descriptor = -1});
  sink.log(sample_step(3));
  const nlohmann::json line = nlohmann::json::parse(contents(dir + "/metrics.jsonl"));
  std::map<std::string, double> scalars;
  for (const tensorboard::Event& event : events_in(dir)) {
    for (const auto& value : event.summary().value()) {
      if (value.has_simple_value()) scalars[value.tag()] = static_cast<double>(value.simple_value());
    }
  }
  EXPECT_EQ(static_cast<float>(line["loss"]), scalars["loss"]);
  EXPECT_EQ(line["layers"]["grad_norm"][1], scalars["grad_norm/layer_01"]);
}

TEST(MetricsSink, AResumedRunForgetsWhatCameAfterItsCheckpoint) {
  const std::string dir = fresh_dir();
  {
    MetricsSink sink({.run_dir = dir, .total_steps = 9, .tensorboard = false, .progress_descriptor = -1});
    for (int64_t step : {1, 2, 3}) sink.log(sample_step(step));
  }
  MetricsSink sink({.run_dir = dir, .total_steps = 9, .resumed_step = 2, .progress_descriptor = -1});
  const std::string log = contents(dir + "/metrics.jsonl");
  EXPECT_NE(log.find("\"step\":2,"), std::string::npos);
  EXPECT_EQ(log.find("\"step\":3,"), std::string::npos);
  const tensorboard::Event start = events_in(dir).at(1);
  EXPECT_EQ(start.session_log().status(), tensorboard::SessionLog::START);
  EXPECT_EQ(start.step(), 3);
}

TEST(MetricsSink, ANewRunStartsAnEmptyLog) {
  const std::string dir = fresh_dir();
  testing_metrics::write_file(dir + "/metrics.jsonl", "{\"step\":0}\n{\"step\":5}\n");
  MetricsSink sink({.run_dir = dir, .tensorboard = false, .progress_descriptor = -1});
  EXPECT_EQ(contents(dir + "/metrics.jsonl"), "");
}

}  // namespace
}  // namespace sluice
