#include "runtime/metrics/metrics_log.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "tests/metrics/files.h"

namespace sluice {
namespace {

using nlohmann::json;
using testing_metrics::contents;
using testing_metrics::fresh_dir;
using testing_metrics::write_file;

TEST(MetricsLog, NumbersReadBackToTheSameBits) {
  StepMetrics metrics;
  metrics.step = 7;
  metrics.tokens = int64_t{1} << 60;
  metrics.loss = 0.1 + 0.2;
  metrics.lr = std::numeric_limits<double>::denorm_min();
  metrics.layers.grad_norm = {1.0 / 3, std::numeric_limits<double>::max()};
  const json object = json::parse(metrics_json(metrics));
  EXPECT_EQ(object["step"].get<int64_t>(), 7);
  EXPECT_EQ(object["tokens"].get<int64_t>(), metrics.tokens);
  EXPECT_EQ(object["loss"].get<double>(), metrics.loss);
  EXPECT_EQ(object["lr"].get<double>(), metrics.lr);
  EXPECT_EQ(object["layers"]["grad_norm"].get<std::vector<double>>(), metrics.layers.grad_norm);
}

TEST(MetricsLog, WhatDoesNotApplyIsAbsent) {
  const json object = json::parse(metrics_json({}));
  EXPECT_FALSE(object.contains("balance_loss"));
  EXPECT_FALSE(object.contains("mfu"));
  EXPECT_FALSE(object.contains("layers"));
}

TEST(MetricsLog, ASkippedUpdateIsSaid) {
  StepMetrics metrics;
  EXPECT_FALSE(json::parse(metrics_json(metrics)).contains("skipped"));
  metrics.skipped = true;
  EXPECT_EQ(json::parse(metrics_json(metrics))["skipped"], true);
}

TEST(MetricsLog, EvaluationLossIsNamedAfterItsSet) {
  StepMetrics metrics;
  metrics.eval_loss = {{"prose", 3.5}, {"a\"b", 1}};
  const json object = json::parse(metrics_json(metrics));
  EXPECT_EQ(object["eval_loss.prose"], 3.5);
  EXPECT_EQ(object["eval_loss.a\"b"], 1);
}

TEST(MetricsLog, NotANumberAndInfinityBecomeNull) {
  StepMetrics metrics;
  metrics.loss = std::nan("");
  metrics.layers.max_activation = {1, std::numeric_limits<double>::infinity()};
  const json object = json::parse(metrics_json(metrics));
  EXPECT_TRUE(object["loss"].is_null());
  EXPECT_TRUE(object["layers"]["max_activation"][1].is_null());
}

TEST(MetricsLog, CuttingDropsLaterStepsAndTheTornLine) {
  const std::string path = fresh_dir() + "/metrics.jsonl";
  write_file(path, "{\"step\":10}\n{\"step\":20}\n{\"step\":3");
  cut_metrics_log(path, 21);
  EXPECT_EQ(contents(path), "{\"step\":10}\n{\"step\":20}\n");
  cut_metrics_log(path, 20);
  EXPECT_EQ(contents(path), "{\"step\":10}\n");
  cut_metrics_log(path, 0);
  EXPECT_EQ(contents(path), "");
}

TEST(MetricsLog, CuttingNamesTheLineThatIsNotOurs) {
  const std::string path = fresh_dir() + "/metrics.jsonl";
  write_file(path, "{\"step\":10}\nnot json\n");
  try {
    cut_metrics_log(path, 20);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("metrics.jsonl:2: expected a JSON object"), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice
