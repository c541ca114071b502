#include "runtime/task_suite.h"

#include <optional>

#include "parallel/thread_group.h"
#include "runtime/generate.h"

namespace sluice {
namespace {

int64_t ask(const AskedModel& model, const Mesh& alone, const TaskSample& sample) {
  GenerateOptions options;
  options.tokens = sample.new_tokens;
  options.temperature = 0;
  options.end_token = model.tokenizer.eod();
  options.drawable = model.tokenizer.present();
  std::vector<int32_t> continuation;
  generate(model.stream, alone, model.transformer, model.weights, sample.prompt, options, [&](int32_t id) {
    if (id != options.end_token) continuation.push_back(id);
  });
  return count_named(model.tokenizer.decode(continuation), sample.answers);
}

/// This rank's samples of a cell, when all samples fit: those that do would be the easier ones. Every rank makes all,
/// which costs little beside what the model does.
std::optional<std::vector<TaskSample>> own_samples(const TaskMaker& maker, const TaskAccuracy& cell, int64_t count,
                                                   const ProcessGroup& world) {
  std::vector<TaskSample> own;
  for (int64_t index = 0; index < count; ++index) {
    std::optional<TaskSample> sample = maker.make(cell.task, cell.length, index);
    if (!sample) return std::nullopt;
    if (index % world.size() == world.rank()) own.push_back(std::move(*sample));
  }
  return own;
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
  std::vector<int64_t> totals(2 * cells.size());
  for (size_t i = 0; i < cells.size(); ++i) {
    const auto samples = own_samples(maker, cells[i], suite.samples(), world);
    if (!samples) continue;
    cells[i].samples = suite.samples();
    for (const TaskSample& sample : *samples) {
      totals[2 * i] += static_cast<int64_t>(sample.answers.size());
      totals[2 * i + 1] += ask(model, alone, sample);
    }
  }
  world.all_reduce({totals.data(), DType::kI64, Device::kCpu, {static_cast<int64_t>(totals.size())}}).wait();
  for (size_t i = 0; i < cells.size(); ++i) {
    cells[i].answers = totals[2 * i];
    cells[i].named = totals[2 * i + 1];
  }
  return cells;
}

}  // namespace sluice
