#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <optional>

#include <fmt/format.h>
#include <glog/logging.h>
#include <google/protobuf/util/message_differencer.h>
#include <nlohmann/json.hpp>

#include "launch/commands.h"
#include "launch/diagnostics_report.h"
#include "launch/loaded_model.h"
#include "launch/task_report.h"
#include "parallel/agree.h"
#include "runtime/evaluate.h"
#include "runtime/run_data.h"
#include "runtime/task_suite.h"
#include "runtime/tasks/haystack.h"
#include "runtime/validate.h"

namespace sluice {
namespace {

/// What one data set scored.
struct SetScore {
  std::string prefix;
  EvaluationResult result;
  int64_t bytes = 0;
  std::optional<ModelDiagnostics> diagnostics;

  double loss() const { return result.loss(); }
  double perplexity() const { return std::exp(loss()); }
  double bits_per_byte() const { return result.nats / std::numbers::ln2 / static_cast<double>(bytes); }
};

void print_json(const std::vector<SetScore>& scores, double mean_loss, double mean_bits_per_byte,
                const std::vector<TaskAccuracy>& tasks) {
  nlohmann::ordered_json out;
  out["sets"] = nlohmann::ordered_json::array();
  for (const SetScore& score : scores) {
    out["sets"].push_back({{"prefix", score.prefix},
                           {"loss", score.loss()},
                           {"perplexity", score.perplexity()},
                           {"bits_per_byte", score.bits_per_byte()},
                           {"targets", score.result.targets},
                           {"bytes", score.bytes}});
    if (score.diagnostics) out["sets"].back()["diagnostics"] = diagnostics_json(*score.diagnostics);
  }
  out["mean"] = {{"loss", mean_loss}, {"perplexity", std::exp(mean_loss)}, {"bits_per_byte", mean_bits_per_byte}};
  if (!tasks.empty()) out["tasks"] = tasks_json(tasks);
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void print_table(const std::vector<SetScore>& scores, double mean_loss, double mean_bits_per_byte,
                 const std::vector<TaskAccuracy>& tasks) {
  fmt::print("{:<40} {:>10} {:>12} {:>14} {:>12} {:>12}\n", "set", "loss", "perplexity", "bits per byte", "targets",
             "bytes");
  for (const SetScore& score : scores) {
    fmt::print("{:<40} {:>10.6f} {:>12.4f} {:>14.6f} {:>12} {:>12}\n", score.prefix, score.loss(), score.perplexity(),
               score.bits_per_byte(), score.result.targets, score.bytes);
  }
  fmt::print("{:<40} {:>10.6f} {:>12.4f} {:>14.6f}\n", "mean", mean_loss, std::exp(mean_loss), mean_bits_per_byte);
  for (const SetScore& score : scores) {
    if (!score.diagnostics) continue;
    fmt::print("\n{}\n", score.prefix);
    print_diagnostics(*score.diagnostics);
  }
  if (!tasks.empty()) print_tasks(tasks);
}

/// Puts the tasks of the configuration to the model, around the text of a set.
std::vector<TaskAccuracy> run_tasks(LoadedModel& loaded, ProcessGroup& world, const IndexedDataset& text) {
  const TrainConfig& config = loaded.config();
  const std::vector<int64_t> lengths = task_lengths(config);
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const Transformer transformer = loaded.make_transformer(longest);
  const TaskMaker maker(loaded.tokenizer(), text, config.evaluation().tasks().seed());
  return measure_tasks({loaded.stream(), transformer, loaded.weights(), loaded.tokenizer()}, world, maker, config);
}

/// Says when overrides ask for what is not looked at or not shown.
void warn_of_the_unseen(const EvalOptions& options, const EvaluationConfig& trained, const EvaluationConfig& asked) {
  const bool same_map =
      google::protobuf::util::MessageDifferencer::Equivalent(trained.attention_map(), asked.attention_map());
  if (asked.has_attention_map() && !same_map && !(options.diagnostics && options.json))
    LOG(WARNING) << "--set evaluation.attention_map shows with --diagnostics --json only";
  if (trained.skip_first() != asked.skip_first() && !options.diagnostics)
    LOG(WARNING) << "--set evaluation.skip_first changes --diagnostics only";
}

/// That a set has what the configuration asks of it, where all ranks learn of it: before anything is evaluated.
void check_data(const EvaluationData& data, const EvaluationConfig& config, bool diagnostics) {
  data.check_ids(data.windows());
  ENSURE(!diagnostics || config.skip_first() < data.length(), "evaluation.skip_first=", config.skip_first(),
         " leaves nothing of windows of ", data.length(), " tokens of ", data.set().prefix());
}

}  // namespace

void run_eval(const EvalOptions& options, Session& session) {
  ProcessGroup& world = session.world();
  LoadedModel loaded(options.checkpoint, session, options.overrides);
  const TrainConfig& config = loaded.config();
  const int64_t length = options.length > 0 ? options.length : config.training().sequence_length();
  const int64_t at_a_time = config.training().micro_batch_size();
  ENSURE(tokens_fit(config.model(), at_a_time, length), "--length ", length, " is too large: ", at_a_time,
         " windows at a time must stay below 2^31 routed tokens");
  if (world.rank() == 0) warn_of_the_unseen(options, loaded.trained_config().evaluation(), config.evaluation());
  std::vector<EvaluationData> sets;
  std::vector<SetScore> scores;
  int64_t longest = 0;
  agree(world, [&] {
    for (const std::string& prefix : options.prefixes) {
      const EvaluationData& data = sets.emplace_back(prefix, length, config.model().vocab_size());
      check_data(data, config.evaluation(), options.diagnostics);
      const Tokenizer* tokenizer = loaded.has_tokenizer() ? &loaded.tokenizer() : nullptr;
      scores.push_back({prefix, {}, text_bytes(prefix, data.set(), tokenizer), {}});
      longest = std::max(longest, data.length());
    }
    // Tasks come last, but are refused before the sets are evaluated.
    if (config.evaluation().has_tasks()) check_text(sets.front().set(), loaded.tokenizer());
  });
  const Transformer transformer = loaded.make_transformer(longest);
  ActivationMemory memory;
  DiagnosticsProbe probe(config.model(), loaded.mesh(), DiagnosticsProbe::Detail::kFull,
                         config.evaluation().skip_first());
  if (options.diagnostics) probe.map_attention(config.evaluation().attention_map());
  const auto evaluate = [&](size_t set) {
    scores[set].result = evaluate_set(loaded.stream(), loaded.mesh(), transformer, loaded.weights(), sets[set],
                                      {at_a_time, 0, options.diagnostics ? &probe : nullptr}, memory);
    if (options.diagnostics) scores[set].diagnostics = probe.finish();
  };
  for (size_t i = 0; i < sets.size(); ++i) {
    evaluate(i);
    if (!options.diagnostics || !find_gate(config.model(), GateSpec::G1)) continue;
    // Once more, with the mean scores that only the whole set gives.
    probe.set_mean_gates(*scores[i].diagnostics);
    evaluate(i);
  }
  std::vector<TaskAccuracy> tasks;
  if (config.evaluation().has_tasks()) tasks = run_tasks(loaded, world, sets.front().set());
  if (world.rank() != 0) return;
  double loss = 0, bits_per_byte = 0;
  for (const SetScore& score : scores) loss += score.loss(), bits_per_byte += score.bits_per_byte();
  const double count = static_cast<double>(scores.size());
  (options.json ? print_json : print_table)(scores, loss / count, bits_per_byte / count, tasks);
}

}  // namespace sluice
