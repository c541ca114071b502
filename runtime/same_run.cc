#include "runtime/same_run.h"

#include <sstream>

#include <google/protobuf/util/message_differencer.h>

#include "kernels/core/error.h"

namespace sluice {
namespace {

using google::protobuf::util::MessageDifferencer;

/// What a run may not change: all that is not known to be harmless.
TrainConfig essence(TrainConfig config) {
  config.clear_mesh();
  config.clear_optimizer();
  config.clear_checkpoint();
  config.clear_logging();
  config.clear_cpu();
  config.clear_device();
  config.clear_watchdog();
  config.clear_stability();
  config.clear_evaluation();
  config.clear_initial_checkpoint();
  DataConfig data;
  // Data may move; whether they are the same is told by what a checkpoint knows of them.
  for (const TrainSet& set : config.data().train()) data.add_train()->set_weight(set.weight());
  *config.mutable_data() = data;
  TrainingConfig& training = *config.mutable_training();
  training.clear_steps();
  training.clear_micro_batch_size();
  training.clear_recompute();
  return config;
}

/// "modified: optimizer.lr: 0.001 -> 0.002; modified: checkpoint.every: 0 -> 5".
std::string differences(const TrainConfig& from, const TrainConfig& to) {
  MessageDifferencer differencer;
  differencer.set_message_field_comparison(MessageDifferencer::EQUIVALENT);
  std::string report;
  differencer.ReportDifferencesToString(&report);
  differencer.Compare(from, to);
  std::string joined;
  std::istringstream lines(report);
  for (std::string line; std::getline(lines, line);) joined += (joined.empty() ? "" : "; ") + line;
  return joined;
}

/// The balance loss counts the experts' shares over so many sequences.
void check_balance(const TrainConfig& run, const TrainConfig& config, const std::string& saved) {
  const MoeConfig& moe = config.model().moe();
  if (!config.model().has_moe() || moe.balance_coef() == 0) return;
  const TrainingConfig &before = run.training(), &now = config.training();
  if (moe.balance_scope() == MoeConfig::GROUP) {
    ENSURE(before.micro_batch_size() == now.micro_batch_size(), "training.micro_batch_size=", now.micro_batch_size(),
           ", but ", saved, " was trained with ", before.micro_batch_size(),
           ", over which balance_scope: GROUP counts the experts' shares");
    return;
  }
  const int64_t sequences_before = before.micro_batch_size() * run.mesh().dp();
  const int64_t sequences = now.micro_batch_size() * config.mesh().dp();
  ENSURE(sequences == sequences_before, "training.micro_batch_size=", now.micro_batch_size(),
         " times mesh.dp=", config.mesh().dp(), " is ", sequences, ", but ", saved, " was trained with ",
         sequences_before,
         " sequences a micro-step, over which the balance loss counts the experts' shares; choose a micro_batch_size",
         " that keeps the product");
}

}  // namespace

std::string check_same_run(const TrainConfig& run, const TrainConfig& config, const std::string& saved) {
  const std::string forbidden = differences(essence(run), essence(config));
  ENSURE(forbidden.empty(), saved, " is of another run; choose another folder, or undo what was changed: ", forbidden);
  check_balance(run, config, saved);
  return differences(run, config);
}

bool same_layout(const TrainConfig& run, const TrainConfig& config) {
  return MessageDifferencer::Equivalent(run.mesh(), config.mesh()) && run.cpu().threads() == config.cpu().threads() &&
         run.training().micro_batch_size() == config.training().micro_batch_size() &&
         run.optimizer().zero_stage() == config.optimizer().zero_stage();
}

}  // namespace sluice
