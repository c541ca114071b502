#include "launch/analysis/report_command.h"

#include <fmt/format.h>

#include "launch/analysis/page.h"
#include "launch/analysis/report_sections.h"
#include "runtime/files/output_file.h"

namespace sluice {
namespace {

/// The runs whose layers are shown: the best finished one of each variant, of the first few.
std::vector<const ReportedRun*> chosen_of(const std::vector<ReportedRun>& runs) {
  std::vector<const ReportedRun*> chosen;
  for (const std::string& variant : variants_of(runs)) {
    const ReportedRun* best = nullptr;
    for (const ReportedRun& run : runs) {
      if (run.variant != variant || run.run.steps.empty()) continue;
      const bool better = !best || (run.finished() && (!best->finished() || run.run.loss < best->run.loss));
      if (better) best = &run;
    }
    if (best && chosen.size() < kMostChosen) chosen.push_back(best);
  }
  return chosen;
}

}  // namespace

void run_report(const ReportOptions& options) {
  const std::vector<ReportedRun> runs = report_runs(read_runs(options.runs));
  const std::vector<const ReportedRun*> chosen = chosen_of(runs);
  HtmlPage page(fmt::format("Sluice: {} run{}", runs.size(), runs.size() == 1 ? "" : "s"));
  page.section("learning-rates", "Learning rates", learning_rates_section(lr_sweeps(runs), runs));
  page.section("losses", "Losses", losses_section(runs));
  page.section("scaling", "Scaling", scaling_section(runs));
  page.section("gates", "Gates and attention", gates_section(chosen, runs));
  page.section("layers", "Layers", layers_section(chosen));
  page.section("speed", "Speed", speed_section(runs));
  page.section("runs", "Runs", runs_section(runs));
  OutputFile file(options.out);
  file.write(page.text());
  file.commit();
  fmt::print("{}: {} runs\n", options.out, runs.size());
}

}  // namespace sluice
