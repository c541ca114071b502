#include "launch/study/finished_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "launch/study/cell_book.h"
#include "runtime/config.h"
#include "runtime/files/json_depth.h"
#include "runtime/metrics/metrics_log.h"
#include "runtime/validate.h"

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
    const nlohmann::json event = nlohmann::json::parse(line, depth_limit(path), false);
    if (!event.is_object() || !event.contains("event")) continue;
    // What goes on after it has not.
    const nlohmann::json& what = event["event"];
    diverged = what == "diverged" || (diverged && what != "resume" && what != "restart");
  }
  return diverged;
}

/// The mean over the last tenth of the logged steps, at least one, but those that were skipped; none: not a number.
double last_losses(const std::vector<StepMetrics>& steps) {
  double sum = 0, count = 0;
  for (size_t i = steps.size() - std::max<size_t>(1, steps.size() / 10); i < steps.size(); ++i) {
    if (steps[i].skipped) continue;
    sum += steps[i].lm_loss;
    ++count;
  }
  return count > 0 ? sum / count : std::nan("");
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

/// What its study knows of a cell, more than its run.
void add_cell_state(const std::string& folder, FinishedRun& run) {
  if (!fs::exists(folder + "/" + kCellFile)) return;
  const CellState state = read_cell_state(folder + "/" + kCellFile);
  run.diverged = run.diverged || state.outcome == CellState::Outcome::kDiverged;
  if (state.outcome == CellState::Outcome::kFailed) run.left_out = "failed: " + state.reason;
  if (state.outcome == CellState::Outcome::kDiverged) run.left_out = state.reason;
}

}  // namespace

namespace {

void fill(const std::string& folder, FinishedRun& run) {
  if (!is_run(folder)) {
    run.left_out = "it has not begun";
    return add_cell_state(folder, run);
  }
  run.config = load_config(folder + "/config.textproto", {});
  validate_stability(run.config.stability());
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
  add_cell_state(folder, run);
}

/// The runs of a folder that is a run, a study or holds runs.
std::vector<std::string> folders_in(const std::string& folder) {
  ENSURE(fs::is_directory(folder), folder, ": no such folder");
  if (is_run(folder)) return {folder};
  const bool is_study = fs::is_directory(fs::path(folder) / "cells");
  std::set<std::string> below;
  for (const fs::directory_entry& entry : fs::directory_iterator(is_study ? folder + "/cells" : folder)) {
    if (entry.is_directory() && (is_study || is_run(entry.path()))) below.insert(entry.path().string());
  }
  for (const std::string& cell : cells_listed_in(folder)) below.insert(folder + "/cells/" + cell);
  ENSURE(!below.empty(), folder, ": neither a run nor a folder of runs (there is no config.textproto)");
  return {below.begin(), below.end()};
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
  std::set<fs::path> seen;
  for (const std::string& folder : folders) {
    for (const std::string& run : folders_in(folder)) {
      if (seen.insert(fs::weakly_canonical(run)).second) runs.push_back(read_run(run));
    }
  }
  return runs;
}

}  // namespace sluice
