#include "launch/study/finished_run.h"

#include <cmath>
#include <filesystem>

#include <gmock/gmock.h>

#include "kernels/core/error.h"
#include "launch/study/cell_book.h"
#include "runtime/metrics/metrics_log.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class FinishedRunTest : public testing::Test {
 protected:
  /// A run of so many steps of 4, with a loss of 5 - step.
  void write(const std::string& name, int64_t steps, bool evaluated = true) {
    std::filesystem::create_directories(folder_ / name);
    folder_.write(name + "/config.textproto",
                  "model { hidden_size: 8 num_layers: 1 num_attention_heads: 2 num_key_value_heads: 1 head_dim: 4 "
                  "vocab_size: 10 intermediate_size: 16 } training { steps: 4 sequence_length: 8 }");
    std::string lines;
    for (int64_t step = 1; step <= steps; ++step) {
      StepMetrics metrics;
      metrics.step = step;
      metrics.tokens = 100 * step;
      metrics.lm_loss = 5.0 - static_cast<double>(step);
      if (evaluated && step == 4) metrics.eval_loss = {{"a", 2.0}, {"b", 3.0}};
      lines += metrics_json(metrics) + "\n";
    }
    folder_.write(name + "/metrics.jsonl", lines);
  }
  std::string error_of(const std::string& name) {
    try {
      read_runs({folder_ / name});
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  const TempFolder folder_;
};

TEST_F(FinishedRunTest, HasItsParametersTokensAndLoss) {
  write("run", 4);
  const FinishedRun run = read_run(folder_ / "run");
  EXPECT_EQ(run.left_out, "");
  EXPECT_EQ(run.tokens(), 400);
  EXPECT_EQ(run.loss, 2.5) << "the mean over its evaluation sets";
  EXPECT_TRUE(run.held_out);
  EXPECT_EQ(run.parameters.total, count_parameters(run.config.model()).total);
  EXPECT_EQ(run.steps.size(), 4u);
}

TEST_F(FinishedRunTest, WithoutEvaluationIsJudgedByItsLastSteps) {
  write("run", 4, false);
  const FinishedRun run = read_run(folder_ / "run");
  EXPECT_EQ(run.loss, 1);
  EXPECT_FALSE(run.held_out);
}

TEST_F(FinishedRunTest, OneThatIsNotAtItsEndOrDivergedIsLeftOut) {
  write("short", 3);
  EXPECT_EQ(read_run(folder_ / "short").left_out, "it is at step 3 of 4");
  write("gone", 2);
  folder_.write(
      "gone/audit.jsonl",
      "{\"step\":1,\"event\":\"skip\",\"reason\":\"\"}\n{\"step\":2,\"event\":\"diverged\",\"reason\":\"\"}\n");
  EXPECT_EQ(read_run(folder_ / "gone").left_out, "it diverged at step 2");
  EXPECT_TRUE(read_run(folder_ / "gone").diverged);
  write("back", 4);
  folder_.write(
      "back/audit.jsonl",
      "{\"step\":2,\"event\":\"diverged\",\"reason\":\"\"}\n{\"step\":2,\"event\":\"resume\",\"reason\":\"\"}\n");
  EXPECT_EQ(read_run(folder_ / "back").left_out, "") << "what was changed and went on";
}

TEST_F(FinishedRunTest, ALineThatWasBeingWrittenIsNoLine) {
  write("run", 3);
  folder_.write("run/metrics.jsonl", folder_.read("run/metrics.jsonl") + "{\"step\":4,\"lo");
  EXPECT_EQ(read_run(folder_ / "run").steps.size(), 3u);
}

TEST_F(FinishedRunTest, FoldersOfRunsAreReadInTheOrderOfTheirNames) {
  write("study/cells/b", 4);
  write("study/cells/a", 4);
  std::vector<std::string> names;
  for (const FinishedRun& run : read_runs({folder_ / "study"})) names.push_back(run.folder);
  EXPECT_THAT(names, ElementsAre(folder_ / "study/cells/a", folder_ / "study/cells/b"));
}

TEST_F(FinishedRunTest, WhatCannotBeReadIsNamed) {
  EXPECT_THAT(error_of("nowhere"), HasSubstr("nowhere: no such folder"));
  std::filesystem::create_directories(folder_ / "empty");
  EXPECT_THAT(error_of("empty"), HasSubstr("empty: neither a run nor a folder of runs"));
  write("run", 2);
  folder_.write("run/metrics.jsonl", "{\"step\":1\n");
  EXPECT_THAT(read_run(folder_ / "run").left_out, HasSubstr("run/metrics.jsonl:1"));
  std::filesystem::remove(folder_ / "run/metrics.jsonl");
  EXPECT_THAT(read_run(folder_ / "run").left_out, HasSubstr("run/metrics.jsonl: cannot open"));
}

TEST_F(FinishedRunTest, OneThatStartedOverAfterItDivergedHasNot) {
  write("run", 4);
  folder_.write("run/audit.jsonl", R"({"event":"diverged"})"
                                   "\n"
                                   R"({"event":"restart"})"
                                   "\n");
  EXPECT_FALSE(read_run(folder_ / "run").diverged);
  folder_.write("run/audit.jsonl", R"({"event":"restart"})"
                                   "\n"
                                   R"({"event":"diverged"})"
                                   "\n");
  EXPECT_TRUE(read_run(folder_ / "run").diverged);
}

TEST_F(FinishedRunTest, StepsThatWereSkippedDoNotCount) {
  write("run", 3, false);
  StepMetrics skipped;
  skipped.step = 4;
  skipped.lm_loss = std::nan("");
  skipped.skipped = true;
  folder_.write("run/metrics.jsonl", folder_.read("run/metrics.jsonl") + metrics_json(skipped) + "\n");
  const FinishedRun run = read_run(folder_ / "run");
  // The last tenth is that step alone: nothing tells its loss.
  EXPECT_TRUE(run.diverged);
  write("run", 3, false);
  std::string lines = folder_.read("run/metrics.jsonl");
  for (int64_t step = 4; step <= 23; ++step) {
    StepMetrics metrics;
    metrics.step = step;
    metrics.skipped = step == 23;
    metrics.lm_loss = metrics.skipped ? std::nan("") : 1.5;
    lines += metrics_json(metrics) + "\n";
  }
  folder_.write("run/metrics.jsonl", lines);
  EXPECT_FALSE(read_run(folder_ / "run").diverged);
  EXPECT_EQ(read_run(folder_ / "run").loss, 1.5);
}

TEST_F(FinishedRunTest, OfAStudyAllCellsAreThere) {
  const CellBook book(folder_ / "study");
  book.keep_study("", {"a", "b", "c", "d", "../e"});
  write("study/cells/a", 4);
  book.set_state("a", {CellState::Outcome::kDone});
  book.set_state("b", {CellState::Outcome::kFailed, "no data"});
  write("study/cells/c", 2);
  book.set_state("c", {CellState::Outcome::kDiverged, "it rose"});
  const auto runs = read_runs({folder_ / "study", folder_ / "study/cells/a", folder_ / "study/cells"});
  ASSERT_EQ(runs.size(), 4u) << "each once";
  EXPECT_EQ(runs[0].left_out, "");
  EXPECT_EQ(runs[1].left_out, "failed: no data");
  EXPECT_EQ(runs[2].left_out, "it rose");
  EXPECT_TRUE(runs[2].diverged);
  EXPECT_EQ(runs[3].left_out, "it has not begun");
}

TEST_F(FinishedRunTest, AConfigurationThatNoRunHadIsTold) {
  write("run", 4);
  folder_.write("run/config.textproto", folder_.read("run/config.textproto") + " stability { level_window: -1 }");
  EXPECT_THAT(read_run(folder_ / "run").left_out, HasSubstr("level_window=-1"));
}

}  // namespace
}  // namespace sluice
