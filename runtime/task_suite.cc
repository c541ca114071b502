#include "runtime/task_suite.h"

#include "parallel/thread_group.h"
#include "runtime/generate.h"

namespace sluice {
namespace {

int64_t ask(const AskedModel& model, const Mesh& alone, const Task& task) {
  GenerateOptions options;
  options.tokens = task.new_tokens;
  options.temperature = 0;
  options.end_token = model.tokenizer.eod();
  options.drawable = model.tokenizer.present();
  std::vector<int32_t> continuation;
  generate(model.stream, alone, model.transformer, model.weights, task.prompt, options, [&](int32_t id) {
    if (id != options.end_token) continuation.push_back(id);
  });
  return count_named(model.tokenizer.decode(continuation), task.answers);
}

}  // namespace

std::vector<int64_t> task_lengths(const TrainConfig& config) {
  const auto& given = config.evaluation().tasks().lengths();
  if (!given.empty()) return {given.begin(), given.end()};
  const int64_t trained = config.training().sequence_length();
  return {std::max<int64_t>(trained / 4, 1), std::max<int64_t>(trained / 2, 1), trained, 2 * trained, 4 * trained};
}

std::vector<TaskSuite::Task> suite_tasks(const TaskSuite& suite) {
  std::vector<TaskSuite::Task> tasks;
  for (int task : suite.tasks()) tasks.push_back(static_cast<TaskSuite::Task>(task));
  if (!tasks.empty()) return tasks;
  for (int task = TaskSuite::Task_MIN; task <= TaskSuite::Task_MAX; ++task) {
    if (TaskSuite::Task_IsValid(task)) tasks.push_back(static_cast<TaskSuite::Task>(task));
  }
  return tasks;
}

std::vector<TaskAccuracy> measure_tasks(const AskedModel& model, ProcessGroup& world, const TaskMaker& maker,
                                        const TrainConfig& config) {
  const TaskSuite& suite = config.evaluation().tasks();
  // Continuations end where they end, so ranks do not keep in step: each asks its own model.
  const std::unique_ptr<ProcessGroup> one = std::move(make_thread_groups(1).front());
  const Mesh alone({}, *one);
  std::vector<TaskAccuracy> cells;
  for (TaskSuite::Task task : suite_tasks(suite)) {
    for (int64_t length : task_lengths(config)) cells.push_back({task, length});
  }
  std::vector<int64_t> totals(3 * cells.size());
  for (size_t i = 0; i < cells.size(); ++i) {
    for (int64_t sample = world.rank(); sample < suite.samples(); sample += world.size()) {
      const std::optional<Task> task = maker.make(cells[i].task, cells[i].length, sample);
      if (!task) continue;
      totals[3 * i] += 1;
      totals[3 * i + 1] += static_cast<int64_t>(task->answers.size());
      totals[3 * i + 2] += ask(model, alone, *task);
    }
  }
  world.all_reduce({totals.data(), DType::kI64, Device::kCpu, {static_cast<int64_t>(totals.size())}}).wait();
  for (size_t i = 0; i < cells.size(); ++i) {
    // Those that fit would be the easier ones.
    if (totals[3 * i] < suite.samples()) continue;
    cells[i].samples = totals[3 * i];
    cells[i].answers = totals[3 * i + 1];
    cells[i].named = totals[3 * i + 2];
  }
  return cells;
}

}  // namespace sluice
