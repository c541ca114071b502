#include "launch/analysis/reported_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/util/message_differencer.h>

#include "runtime/config.h"

namespace sluice {
namespace {

// A level takes a few logged steps, its noise thirty more.
constexpr size_t kFewestSteps = 40;

std::vector<SpikeEpisode> spikes_of(const FinishedRun& run) {
  EpisodeFinder finder(run.config.stability());
  for (const StepMetrics& step : run.steps) finder.see({step.step, step.lm_loss});
  return finder.episodes();
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum / static_cast<double>(values.size());
}

void set_measures(ReportedRun& reported) {
  std::vector<double> speeds;
  for (const StepMetrics& step : reported.run.steps) {
    const LayerMetrics& layers = step.layers;
    if (!layers.first_token_attention.empty()) reported.first_token_attention = mean(layers.first_token_attention);
    const auto largest = [](const std::vector<double>& values, std::optional<double>& to) {
      if (!values.empty()) to = *std::max_element(values.begin(), values.end());
    };
    largest(layers.max_activation, reported.max_activation);
    largest(layers.expert_load_max_over_mean, reported.expert_load_max_over_mean);
    speeds.push_back(step.tokens_per_s);
  }
  if (speeds.empty()) return;
  const auto middle = speeds.begin() + static_cast<std::ptrdiff_t>(speeds.size() / 2);
  std::nth_element(speeds.begin(), middle, speeds.end());
  reported.tokens_per_s = *middle;
}

/// What tells a variant from another: all but the learning rate, the seed, where data lie, and how and where it is
/// computed.
TrainConfig variant_config(TrainConfig config) {
  config.mutable_optimizer()->clear_lr();
  config.mutable_optimizer()->clear_zero_stage();
  TrainingConfig& training = *config.mutable_training();
  training.clear_seed();
  training.clear_micro_batch_size();
  training.clear_recompute();
  DataConfig data;
  for (const TrainSet& set : config.data().train()) data.add_train()->set_weight(set.weight());
  *config.mutable_data() = data;
  config.clear_cpu();
  config.clear_device();
  config.clear_mesh();
  config.clear_logging();
  config.clear_checkpoint();
  config.clear_watchdog();
  config.clear_evaluation();
  config.clear_plan();
  return config;
}

/// Of a folder that a sweep has named, what it says but for learning rate and seed; nothing: it is no such name.
std::string choices_in(const std::string& name) {
  std::string choices;
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find(',', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const std::string axis = part.substr(0, part.find('='));
    if (axis == part) return "";
    if (axis != "lr" && axis != "seed") choices += (choices.empty() ? "" : ",") + part;
    begin = end + 1;
  }
  return choices;
}

/// "modified: model.hidden_size: 64 -> 32" as model.hidden_size=32, "deleted: model.gates[0]: { ... }" as without
/// model.gates[0].
std::string difference(const std::string& line) {
  const size_t kind_end = line.find(": "), name = kind_end + 2;
  const size_t value = line.find(": ", name);
  if (kind_end == std::string::npos || value == std::string::npos) return line;
  const std::string kind = line.substr(0, kind_end), field = line.substr(name, value - name);
  if (kind == "deleted") return "without " + field;
  const size_t arrow = line.rfind(" -> ");
  const size_t begin = kind == "modified" && arrow != std::string::npos ? arrow + 4 : value + 2;
  return field + "=" + line.substr(begin);
}

std::string differences(const TrainConfig& from, const TrainConfig& to) {
  google::protobuf::util::MessageDifferencer differencer;
  std::string lines;
  differencer.ReportDifferencesToString(&lines);
  differencer.Compare(from, to);
  std::string text;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) text += (text.empty() ? "" : ", ") + difference(line);
  constexpr size_t kLongest = 80;
  return text.size() > kLongest ? text.substr(0, kLongest) + " ..." : text;
}

}  // namespace

std::vector<ReportedRun> report_runs(std::vector<FinishedRun> runs) {
  std::vector<ReportedRun> all;
  std::map<std::string, std::string> variants;  // by configuration
  std::map<std::string, int> uses;              // of a name
  std::optional<TrainConfig> first;
  for (FinishedRun& run : runs) {
    ReportedRun reported{std::move(run), "", ""};
    reported.name = std::filesystem::path(reported.run.folder + "/.").lexically_normal().parent_path().filename();
    if (!reported.run.config.has_model()) {
      // It has not begun, or its configuration cannot be read.
      all.push_back(std::move(reported));
      continue;
    }
    const TrainConfig config = variant_config(reported.run.config);
    if (!first) first = config;
    const auto [at, is_new] = variants.try_emplace(config_text(config));
    if (is_new) {
      at->second = choices_in(reported.name);
      if (at->second.empty()) at->second = differences(*first, config);
      if (at->second.empty()) at->second = "all";
      // Studies may call different things the same.
      const int number = ++uses[at->second];
      if (number > 1) at->second += fmt::format(" ({})", number);
    }
    reported.variant = at->second;
    reported.spikes = spikes_of(reported.run);
    reported.spikes_known = reported.run.steps.size() >= kFewestSteps || !reported.spikes.empty();
    set_measures(reported);
    all.push_back(std::move(reported));
  }
  return all;
}

std::vector<std::string> variants_of(const std::vector<ReportedRun>& runs) {
  std::vector<std::string> variants;
  for (const ReportedRun& run : runs) {
    if (run.variant.empty()) continue;
    if (std::find(variants.begin(), variants.end(), run.variant) == variants.end()) variants.push_back(run.variant);
  }
  return variants;
}

}  // namespace sluice
