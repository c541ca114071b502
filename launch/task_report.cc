#include "launch/task_report.h"

#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/tasks/word_lists.h"

namespace sluice {
namespace {

struct Mean {
  double sum = 0;
  int64_t tasks = 0;
};

/// By length, over the tasks that fit.
std::map<int64_t, Mean> means(const std::vector<TaskAccuracy>& cells) {
  std::map<int64_t, Mean> by_length;
  for (const TaskAccuracy& cell : cells) {
    Mean& mean = by_length[cell.length];
    if (cell.samples > 0) mean.sum += cell.accuracy(), ++mean.tasks;
  }
  return by_length;
}

/// Of common words and others, by length, which is what a list's difficulty follows from.
void print_counts(const std::map<int64_t, Mean>& lengths) {
  fmt::print("\n{:<20}", "  times in the list");
  for (const auto& [length, mean] : lengths) {
    const WordCounts counts = common_word_counts(length);
    fmt::print(" {:>8}", fmt::format("{}:{}", counts.common, counts.others));
  }
}

void print_cell(double accuracy, int64_t of) {
  if (of > 0)
    fmt::print(" {:>8.1f}", 100 * accuracy);
  else
    fmt::print(" {:>8}", "-");
}

}  // namespace

void print_tasks(const std::vector<TaskAccuracy>& cells) {
  const std::map<int64_t, Mean> by_length = means(cells);
  fmt::print("\n{:<20}", "accuracy, % of");
  for (const auto& [length, mean] : by_length) fmt::print(" {:>8}", length);
  std::map<TaskSuite::Task, std::map<int64_t, const TaskAccuracy*>> rows;
  for (const TaskAccuracy& cell : cells) rows[cell.task][cell.length] = &cell;
  for (const auto& [task, row] : rows) {
    fmt::print("\n{:<20}", TaskSuite::Task_Name(task));
    for (const auto& [length, cell] : row) print_cell(cell->accuracy(), cell->samples);
    if (task == TaskSuite::COMMON_WORDS) print_counts(by_length);
  }
  fmt::print("\n{:<20}", "mean");
  for (const auto& [length, mean] : by_length) print_cell(mean.sum / static_cast<double>(mean.tasks), mean.tasks);
  fmt::print("\n");
}

nlohmann::ordered_json tasks_json(const std::vector<TaskAccuracy>& cells) {
  nlohmann::ordered_json out;
  out["cells"] = nlohmann::ordered_json::array();
  for (const TaskAccuracy& cell : cells) {
    nlohmann::ordered_json json = {
        {"task", TaskSuite::Task_Name(cell.task)}, {"length", cell.length}, {"samples", cell.samples}};
    json["accuracy"] = cell.samples > 0 ? nlohmann::ordered_json(cell.accuracy()) : nlohmann::ordered_json();
    if (cell.task == TaskSuite::COMMON_WORDS) {
      const WordCounts counts = common_word_counts(cell.length);
      json["times_in_list"] = {{"common", counts.common}, {"others", counts.others}};
    }
    out["cells"].push_back(json);
  }
  out["mean_by_length"] = nlohmann::ordered_json::array();
  for (const auto& [length, mean] : means(cells)) {
    if (mean.tasks == 0) continue;
    out["mean_by_length"].push_back(
        {{"length", length}, {"tasks", mean.tasks}, {"accuracy", mean.sum / static_cast<double>(mean.tasks)}});
  }
  return out;
}

}  // namespace sluice
