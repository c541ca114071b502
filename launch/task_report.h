#pragma once

#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "runtime/task_suite.h"

namespace sluice {

/// A table on standard output: accuracy in percent, a row a task, a column a length, and the means of the columns over
/// the tasks that fit; under COMMON_WORDS, how often its words come.
void print_tasks(const std::vector<TaskAccuracy>& cells);

/// The same as fields.
nlohmann::ordered_json tasks_json(const std::vector<TaskAccuracy>& cells);

}  // namespace sluice
