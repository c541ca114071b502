#pragma once

#include <vector>

#include "models/transformer.h"
#include "runtime/step.h"
#include "runtime/tasks/task.h"

namespace sluice {

/// Accuracy of one task at one length.
struct TaskAccuracy {
  TaskSuite::Task task;
  int64_t length = 0;
  int64_t samples = 0;  ///< 0: not every sample fits into the length
  int64_t answers = 0;  ///< in all samples
  int64_t named = 0;    ///< of them, by greedy continuations

  double accuracy() const { return answers > 0 ? static_cast<double>(named) / static_cast<double>(answers) : 0; }
};

/// Lengths and tasks of a suite, those that it leaves out filled in.
std::vector<int64_t> task_lengths(const TrainConfig& config);
std::vector<TaskSuite::Task> suite_tasks(const TaskSuite& suite);

/// A model, for the tasks to be put to.
struct AskedModel {
  Stream& stream;
  const Transformer& transformer;  ///< with tables up to the longest length
  const ModelTensors& weights;     ///< all of them
  const Tokenizer& tokenizer;
};

/// Puts every task at every length to the model, in this order. The ranks of `world`, which hold the whole model each,
/// share the samples; each returns the same. Every rank calls it.
std::vector<TaskAccuracy> measure_tasks(const AskedModel& model, ProcessGroup& world, const TaskMaker& maker,
                                        const TrainConfig& config);

}  // namespace sluice
