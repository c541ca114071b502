#include "runtime/metrics/metrics_log.h"

#include <cmath>
#include <filesystem>
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

TEST(MetricsLog, ALineIsReadBackAsItWas) {
  StepMetrics metrics;
  metrics.step = 7, metrics.tokens = 1000, metrics.loss = 0.1 + 0.2, metrics.lm_loss = 0.3, metrics.z_loss = 1e-9;
  metrics.balance_loss = 2, metrics.grad_norm = std::nan(""), metrics.lr = 1e-3, metrics.skipped = true;
  metrics.step_ms = 5, metrics.tokens_per_s = 6, metrics.mfu = 0.5, metrics.communication_ms = 0.25;
  metrics.eval_loss = {{"prose", 3.5}, {"a.b", 1}};
  LayerMetrics& layers = metrics.layers;
  double value = 1;
  for (auto* array : {&layers.gate_mean, &layers.first_token_attention, &layers.max_activation,
                      &layers.expert_load_max_over_mean, &layers.router_entropy, &layers.grad_norm, &layers.update_rms,
                      &layers.attention_logit_max, &layers.gates["gate_std"]}) {
    *array = {value++, value++};
  }
  EXPECT_EQ(metrics_json(parse_metrics(metrics_json(metrics), "there")), metrics_json(metrics));
  EXPECT_EQ(metrics_json(parse_metrics(metrics_json({}), "there")), metrics_json({}));
}

TEST(MetricsLog, ALineThatIsNoneIsRefused) {
  for (const char* line :
       {"", "{", "[]", "7", "{\"tokens\":1}", "{\"step\":1.5,\"tokens\":1}", "{\"step\":1e300,\"tokens\":1}",
        "{\"step\":1,\"tokens\":1,\"loss\":\"x\"}", "{\"step\":1,\"tokens\":1,\"layers\":{\"x\":\"y\"}}",
        "{\"step\":1,\"tokens\":1,\"layers\":7}"}) {
    try {
      parse_metrics(line, "there");
      ADD_FAILURE() << line;
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "there: expected a line of metrics.jsonl");
    }
  }
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

TEST(MetricsLog, CuttingMayKeepWhatItDropsElsewhere) {
  const std::string path = fresh_dir() + "/metrics.jsonl", kept = path + ".kept";
  write_file(path, "{\"step\":10}\n{\"step\":20}\n{\"step\":30}\n");
  cut_metrics_log(path, 31, kept);
  EXPECT_FALSE(std::filesystem::exists(kept)) << "nothing was dropped";
  cut_metrics_log(path, 20, kept);
  EXPECT_EQ(contents(path), "{\"step\":10}\n");
  EXPECT_EQ(contents(kept), "{\"step\":20}\n{\"step\":30}\n");
  cut_metrics_log(path, 10, kept);
  EXPECT_EQ(contents(kept), "{\"step\":20}\n{\"step\":30}\n{\"step\":10}\n");
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
