#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/study/finished_run.h"
#include "runtime/stability/episodes.h"

namespace sluice {

/// A run as a report shows it.
struct ReportedRun {
  FinishedRun run;
  std::string name;                    ///< of its folder
  std::string variant;                 ///< what it shares with runs of the same variant; empty: it has no configuration
  std::vector<SpikeEpisode> spikes{};  ///< of its logged loss
  bool spikes_known = false;           ///< its log is long enough for the detector to know the noise
  std::optional<double> first_token_attention{};      ///< mean over layers, in its last step that tells it
  std::optional<double> max_activation{};             ///< largest of all layers, in the same step
  std::optional<double> tokens_per_s{};               ///< median over logged steps, all ranks
  std::optional<double> expert_load_max_over_mean{};  ///< largest of all layers, in its last step that tells it

  double lr() const { return run.config.optimizer().lr(); }
  double first_loss() const { return run.steps.empty() ? 0 : run.steps.front().lm_loss; }
  bool finished() const { return run.left_out.empty(); }
};

/// Runs with what is told of each; those that cannot be read are there too. Runs are of one variant when their
/// configurations differ in optimizer.lr, training.seed, the places of data, layout and what else does not change a
/// result at most. A variant is called what its cells' names say of it, or by what its configuration has that the first
/// variant's has not, with a number where two would be called the same.
std::vector<ReportedRun> report_runs(std::vector<FinishedRun> runs);

/// The variants, in the order of their first runs.
std::vector<std::string> variants_of(const std::vector<ReportedRun>& runs);

}  // namespace sluice
