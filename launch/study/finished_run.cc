#include "launch/study/finished_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/config.h"
#include "runtime/metrics/metrics_log.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

std::vector<StepMetrics> read_steps(const std::string& path) {
  std::ifstream file(path);
  ENSURE(file.is_open(), path, ": cannot open");
  std::vector<StepMetrics> steps;
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    // A line without its end is one that a run was writing.
    if (file.eof()) break;
    steps.push_back(parse_metrics(line, concat(path, ":", number)));
    ENSURE(steps.size() < 2 || steps[steps.size() - 2].step < steps.back().step, path, ":", number, ": step ",
           steps.back().step, " comes after step ", steps[steps.size() - 2].step);
  }
  return steps;
}

bool says_that_it_diverged(const std::string& path) {
  std::ifstream file(path);
  bool diverged = false;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json event = nlohmann::json::parse(line, nullptr, false);
    if (!event.is_object() || !event.contains("event")) continue;
    // What goes on after it has not.
    diverged = event["event"] == "diverged" || (diverged && event["event"] != "resume");
  }
  return diverged;
}

/// The mean over the last tenth of the logged steps, at least one.
double last_losses(const std::vector<StepMetrics>& steps) {
  const size_t count = std::max<size_t>(1, steps.size() / 10);
  double sum = 0;
  for (size_t i = steps.size() - count; i < steps.size(); ++i) sum += steps[i].lm_loss;
  return sum / static_cast<double>(count);
}

void set_loss(FinishedRun& run) {
  const StepMetrics& last = run.steps.back();
  run.held_out = !last.eval_loss.empty();
  if (!run.held_out) {
    run.loss = last_losses(run.steps);
    return;
  }
  for (const auto& [set, loss] : last.eval_loss) run.loss += loss / static_cast<double>(last.eval_loss.size());
}

bool is_run(const fs::path& folder) { return fs::exists(folder / "config.textproto"); }

}  // namespace

namespace {

void fill(const std::string& folder, FinishedRun& run) {
  run.config = load_config(folder + "/config.textproto", {});
  run.parameters = count_parameters(run.config.model());
  run.diverged = says_that_it_diverged(folder + "/audit.jsonl");
  run.steps = read_steps(folder + "/metrics.jsonl");
  const int64_t wanted = run.config.training().steps(), done = run.steps.empty() ? 0 : run.steps.back().step;
  if (!run.steps.empty()) set_loss(run);
  if (run.diverged) {
    run.left_out = concat("it diverged at step ", done);
  } else if (done < wanted) {
    run.left_out = concat("it is at step ", done, " of ", wanted);
  } else if (!std::isfinite(run.loss)) {
    run.diverged = true;
    run.left_out = "its loss is not finite";
  }
}

}  // namespace

FinishedRun read_run(const std::string& folder) {
  FinishedRun run;
  run.folder = folder;
  try {
    fill(folder, run);
  } catch (const Error& error) {
    run.left_out = error.what();
  }
  return run;
}

std::vector<FinishedRun> read_runs(const std::vector<std::string>& folders) {
  std::vector<FinishedRun> runs;
  for (const std::string& folder : folders) {
    ENSURE(fs::is_directory(folder), folder, ": no such folder");
    if (is_run(folder)) {
      runs.push_back(read_run(folder));
      continue;
    }
    const fs::path cells = fs::is_directory(fs::path(folder) / "cells") ? fs::path(folder) / "cells" : fs::path(folder);
    std::vector<std::string> below;
    for (const fs::directory_entry& entry : fs::directory_iterator(cells)) {
      if (entry.is_directory() && is_run(entry.path())) below.push_back(entry.path().string());
    }
    ENSURE(!below.empty(), folder, ": neither a run nor a folder of runs (there is no config.textproto)");
    std::sort(below.begin(), below.end());
    for (const std::string& each : below) runs.push_back(read_run(each));
  }
  return runs;
}

}  // namespace sluice
