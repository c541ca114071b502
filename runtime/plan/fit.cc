#include "runtime/plan/fit.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <optional>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>

#include "runtime/plan/memory_table.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

/// A number in a file; without one: `otherwise`.
int64_t number_in(const std::string& path, int64_t otherwise) {
  std::ifstream file(path);
  std::string text;
  int64_t number = 0;
  if (!(file >> text)) return otherwise;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number > 0 ? number : otherwise;
}

/// The least limit of a control group and of those that it is in.
int64_t least_limit(const std::string& root, std::string group, const std::string& file, int64_t otherwise) {
  int64_t least = otherwise;
  while (true) {
    least = std::min(least, number_in(root + group + "/" + file, otherwise));
    const size_t parent = group.rfind('/');
    if (group.empty() || parent == std::string::npos) return least;
    group.resize(parent);
  }
}

int64_t peak_bytes(const TrainConfig& config, int rank) {
  DryRun dry(config, rank, config.plan().imbalance());
  Unobserved nobody;
  dry.step(std::min<int64_t>(2, dry.micro_steps()), nobody);
  if (config.data().eval_size() > 0) dry.evaluate(nobody);
  return memory_table(dry.memory(), cpu_overhead(config.cpu().threads(), mesh_shape(config).world() > 1)).total;
}

void recompute_all(TrainConfig& config) {
  TrainingConfig& training = *config.mutable_training();
  training.clear_recompute();
  RecomputeRange& range = *training.add_recompute();
  range.set_first_layer(0);
  range.set_last_layer(config.model().num_layers() - 1);
}
std::string recompute_text(const TrainConfig& config) {
  return fmt::format("training.recompute={{first_layer: 0 last_layer: {}}}", config.model().num_layers() - 1);
}

/// Of one field, what takes less memory.
struct Change {
  std::string text;
  std::function<void(TrainConfig&)> make;
};

/// By field, each from the least change on; those that do the least harm first.
std::vector<std::vector<Change>> changes_of(const TrainConfig& config) {
  std::vector<std::vector<Change>> fields(1);
  for (int64_t size = config.training().micro_batch_size(); size > 1;) {
    size = size % 2 == 0 ? size / 2 : 1;
    fields[0].push_back({fmt::format("training.micro_batch_size={}", size),
                         [size](TrainConfig& c) { c.mutable_training()->set_micro_batch_size(size); }});
  }
  if (config.optimizer().zero_stage() < 2 && mesh_shape(config).world() > 1) {
    fields.push_back({{"optimizer.zero_stage=2", [](TrainConfig& c) { c.mutable_optimizer()->set_zero_stage(2); }}});
  }
  fields.push_back({{recompute_text(config), recompute_all}});
  return fields;
}

/// With a change, if that is a valid configuration.
std::optional<TrainConfig> with(const TrainConfig& config, const Change& change) {
  TrainConfig changed = config;
  change.make(changed);
  try {
    validate_plan(changed, mesh_shape(config).world());
    return changed;
  } catch (const Error&) {
    return std::nullopt;
  }
}

double gib(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

int64_t node_memory_bytes() {
  const int64_t physical = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  int64_t least = physical;
  std::ifstream groups("/proc/self/cgroup");
  // hierarchy:controllers:path, of version 2 without controllers.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    const std::string group = path == "/" ? "" : path;
    if (controllers.empty()) {
      least = std::min(least, least_limit("/sys/fs/cgroup", group, "memory.max", physical));
    } else if (controllers.find("memory") != std::string::npos) {
      least = std::min(least, least_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes", physical));
    }
  }
  return least;
}

std::string why_it_does_not_fit(const TrainConfig& config, int rank, int ranks_on_node, int64_t memory_bytes) {
  const int64_t most = memory_bytes / std::max(1, ranks_on_node), needs = peak_bytes(config, rank);
  if (needs <= most) return "";
  const std::string line =
      fmt::format("a rank needs {:.2f} GiB, and {} of them on this machine may take {:.2f} GiB each; ", gib(needs),
                  ranks_on_node, gib(most));
  const std::vector<std::vector<Change>> fields = changes_of(config);
  for (const std::vector<Change>& field : fields) {
    for (const Change& change : field) {
      const std::optional<TrainConfig> changed = with(config, change);
      const int64_t then = changed ? peak_bytes(*changed, rank) : needs;
      if (then <= most) return line + fmt::format("with {} it needs {:.2f} GiB", change.text, gib(then));
    }
  }
  // All together, as far as each goes.
  TrainConfig smallest = config;
  std::string texts;
  for (const std::vector<Change>& field : fields) {
    for (auto change = field.rbegin(); change != field.rend(); ++change) {
      const std::optional<TrainConfig> changed = with(smallest, *change);
      if (!changed) continue;
      smallest = *changed;
      texts += (texts.empty() ? "" : " and ") + change->text;
      if (const int64_t then = peak_bytes(smallest, rank); then <= most) {
        return line + fmt::format("with {} it needs {:.2f} GiB", texts, gib(then));
      }
      break;
    }
  }
  return line + "it takes more machines, or more ranks that share the model (sluice plan --world tells)";
}

}  // namespace sluice
