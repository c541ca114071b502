#pragma once

#include <string>
#include <vector>

#include "launch/analysis/lr_sweep.h"
#include "launch/analysis/reported_run.h"

namespace sluice {

// Bodies of a report's sections, HTML; empty: there is nothing to show.

/// A line for every run.
std::string runs_section(const std::vector<ReportedRun>& runs);
/// Final losses over learning rates, what they say of each variant, attention to the first token and activations.
std::string learning_rates_section(const std::vector<LrSweep>& sweeps, const std::vector<ReportedRun>& runs);
/// Losses of all runs, a figure for each variant when there are many, with the spikes that the detector sees in them.
std::string losses_section(const std::vector<ReportedRun>& runs);
/// A law of the best run of each size and number of tokens; from six of them on.
std::string scaling_section(const std::vector<ReportedRun>& runs);
/// So many runs are chosen to show their layers.
inline constexpr size_t kMostChosen = 4;
/// What the layers of the chosen runs measured over their steps, and at their end.
std::string layers_section(const std::vector<const ReportedRun*>& chosen);
/// Gate scores and attention maps of every run that has RUN/diagnostics.json, and what the chosen runs' metrics have of
/// gates. Throws Error naming such a file when it is something else.
std::string gates_section(const std::vector<const ReportedRun*>& chosen, const std::vector<ReportedRun>& runs);
std::string speed_section(const std::vector<ReportedRun>& runs);

}  // namespace sluice
