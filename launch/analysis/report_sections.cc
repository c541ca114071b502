#include "launch/analysis/report_sections.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "launch/analysis/page.h"
#include "launch/analysis/plot.h"

namespace sluice {
namespace {

std::string or_dash(const std::optional<double>& value, const char* format = "{:.4g}") {
  return value && std::isfinite(*value) ? fmt::format(fmt::runtime(format), *value) : "-";
}

std::string loss_text(double loss) { return std::isfinite(loss) ? fmt::format("{:.4f}", loss) : "-"; }

std::string outcome_of(const ReportedRun& run) {
  if (run.finished()) return "done";
  return run.run.left_out;
}

/// Losses above what runs begin with tell nothing more.
double highest_loss(const std::vector<ReportedRun>& runs) {
  double highest = 0;
  for (const ReportedRun& run : runs) highest = std::max(highest, run.first_loss());
  return highest > 0 ? 1.05 * highest : 1;
}

/// Where a value stands among all of its kind, from faint to full colour.
double strength_of(double value, std::vector<double> all) {
  constexpr double kFaintest = 0.4;
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (all.size() < 2) return 1;
  const auto rank = static_cast<double>(std::lower_bound(all.begin(), all.end(), value) - all.begin());
  return kFaintest + (1 - kFaintest) * rank / static_cast<double>(all.size() - 1);
}

Series loss_curve(const ReportedRun& run, int color, double strength, const std::string& name) {
  Series series;
  series.name = name;
  series.tooltip = run.name;
  series.color = color;
  series.strength = strength;
  for (const StepMetrics& step : run.run.steps) {
    series.x.push_back(static_cast<double>(step.step));
    series.y.push_back(std::isfinite(step.lm_loss) ? step.lm_loss : std::numeric_limits<double>::max());
  }
  return series;
}

void add_spikes(const ReportedRun& run, int color, Plot& plot) {
  for (const SpikeEpisode& spike : run.spikes) {
    plot.marks.push_back({static_cast<double>(spike.peak_step),
                          std::isfinite(spike.peak) ? spike.peak : std::numeric_limits<double>::max(), color,
                          fmt::format("{}: spike in steps {} to {}, {:.4g} above a level of {:.4g}", run.name,
                                      spike.first_step, spike.last_step, spike.peak - spike.baseline, spike.baseline)});
  }
}

Plot loss_plot(const std::string& title, double highest) {
  Plot plot{title, {"step"}, {"loss, nats a token"}};
  plot.y.largest = highest;
  return plot;
}

std::string sweep_table(const std::vector<LrSweep>& sweeps) {
  HtmlTable table{{"variant", "runs", "best LR", "best loss", "LR sensitivity", "95 % from", "to", "highest stable LR",
                   "diverged", "spikes"}};
  for (const LrSweep& s : sweeps) {
    const auto end = [&](double Interval::*which) {
      return s.sensitivity_interval ? fmt::format("{:.4f}", (*s.sensitivity_interval).*which) : std::string("-");
    };
    table.rows.push_back({s.variant, std::to_string(s.runs), or_dash(s.best_lr), or_dash(s.best_loss, "{:.4f}"),
                          or_dash(s.sensitivity, "{:.4f}"), end(&Interval::low), end(&Interval::high),
                          or_dash(s.highest_stable_lr), std::to_string(s.diverged), or_dash(s.spikes, "{:.0f}")});
  }
  return html_table(table);
}

/// The line of a variant, without its points yet; the number decides its colour.
Series variant_series(const LrSweep& sweep, size_t number) {
  Series series;
  series.name = sweep.variant;
  series.color = static_cast<int>(number);
  series.points = true;
  return series;
}

/// A value of each learning rate's runs, a line a variant.
template <class Get>
std::string rate_figure(const std::string& title, const std::string& y_title, bool log_y,
                        const std::vector<LrSweep>& sweeps, const Get& get) {
  Plot plot{title, {"peak learning rate", true}, {y_title, log_y}};
  if (!log_y) plot.y.least = 0;
  bool any = false;
  for (size_t i = 0; i < sweeps.size(); ++i) {
    Series series = variant_series(sweeps[i], i);
    for (const LrPoint& point : sweeps[i].points) {
      const std::optional<double>& value = get(point);
      series.x.push_back(point.lr);
      series.y.push_back(value ? *value : std::numeric_limits<double>::quiet_NaN());
      any = any || value;
    }
    plot.series.push_back(std::move(series));
  }
  return any ? plot_figure(plot) : "";
}

std::string rate_loss_figure(const std::vector<LrSweep>& sweeps, double highest) {
  Plot plot{"Loss at the end", {"peak learning rate", true}, {"loss, nats a token"}};
  plot.y.largest = highest;
  for (size_t i = 0; i < sweeps.size(); ++i) {
    Series series = variant_series(sweeps[i], i);
    for (const LrPoint& point : sweeps[i].points) {
      series.x.push_back(point.lr);
      series.y.push_back(point.loss);
      series.low.push_back(point.bar.low);
      series.high.push_back(point.bar.high);
      if (point.diverged == 0) continue;
      plot.marks.push_back({point.lr, highest, static_cast<int>(i),
                            fmt::format("{}, learning rate {}: {} of {} diverged", sweeps[i].variant,
                                        number_text(point.lr), point.diverged, point.runs)});
    }
    plot.series.push_back(std::move(series));
  }
  return plot_figure(plot);
}

}  // namespace

std::string runs_section(const std::vector<ReportedRun>& runs) {
  HtmlTable table{{"run", "parameters", "active", "LR", "seed", "tokens", "loss", "spikes", "first-token share",
                   "max activation", "tokens/s", "outcome"}};
  for (const ReportedRun& run : runs) {
    const FinishedRun& of = run.run;
    table.rows.push_back({run.name, number_text(static_cast<double>(of.parameters.total)),
                          number_text(static_cast<double>(of.parameters.active)), number_text(run.lr()),
                          std::to_string(of.config.training().seed()), number_text(of.tokens()),
                          of.steps.empty() ? "-" : loss_text(of.loss),
                          run.spikes_known ? std::to_string(run.spikes.size()) : "-",
                          or_dash(run.first_token_attention), or_dash(run.max_activation),
                          or_dash(run.tokens_per_s, "{:.0f}"), outcome_of(run)});
  }
  return html_paragraph(
             "The loss is the mean over a run's evaluation sets at its end; without such, over its last tenth of "
             "logged "
             "steps.") +
         html_table(table);
}

std::string learning_rates_section(const std::vector<LrSweep>& sweeps, const std::vector<ReportedRun>& runs) {
  if (sweeps.empty()) return "";
  const double highest = highest_loss(runs);
  return html_paragraph(fmt::format(
             "Bars: over seeds the least and the largest; of a single run where its noise puts 95 % of means of its "
             "last "
             "losses. Rings at the upper edge: runs that diverged. LR sensitivity is the mean excess over the best "
             "loss "
             "across the learning rates, no run counting for more than it began with. The highest stable LR is the "
             "last, "
             "going up from the best, without a diverged run and with a loss at most {} nats above the best.",
             kStableExcess)) +
         html_row(
             {rate_loss_figure(sweeps, highest),
              rate_figure("Spikes", "spikes of all seeds", false, sweeps, [](const LrPoint& p) { return p.spikes; }),
              rate_figure("Attention to the first token", "share", false, sweeps,
                          [](const LrPoint& p) { return p.first_token_attention; }),
              rate_figure("Largest activation", "|x| of the residual stream", true, sweeps,
                          [](const LrPoint& p) { return p.max_activation; })}) +
         sweep_table(sweeps);
}

std::string losses_section(const std::vector<ReportedRun>& runs) {
  constexpr size_t kTogether = 8;
  const double highest = highest_loss(runs);
  std::vector<std::string> figures;
  if (runs.size() <= kTogether) {
    Plot plot = loss_plot("Training loss", highest);
    for (size_t i = 0; i < runs.size(); ++i) {
      plot.series.push_back(loss_curve(runs[i], static_cast<int>(i), 1, runs[i].name));
      add_spikes(runs[i], static_cast<int>(i), plot);
    }
    figures.push_back(plot_figure(plot));
  } else {
    const std::vector<std::string> variants = variants_of(runs);
    for (size_t v = 0; v < variants.size(); ++v) {
      Plot plot = loss_plot("Training loss, " + variants[v], highest);
      std::vector<double> rates;
      std::vector<const ReportedRun*> by_lr;
      for (const ReportedRun& run : runs) {
        if (run.variant == variants[v]) by_lr.push_back(&run);
      }
      std::stable_sort(by_lr.begin(), by_lr.end(),
                       [](const ReportedRun* a, const ReportedRun* b) { return a->lr() < b->lr(); });
      for (const ReportedRun* run : by_lr) rates.push_back(run->lr());
      for (size_t i = 0; i < by_lr.size(); ++i) {
        const ReportedRun& run = *by_lr[i];
        const bool is_new = i == 0 || run.lr() != rates[i - 1];
        plot.series.push_back(loss_curve(run, static_cast<int>(v), strength_of(run.lr(), rates),
                                         is_new ? "LR " + number_text(run.lr()) : ""));
        add_spikes(run, static_cast<int>(v), plot);
      }
      figures.push_back(plot_figure(plot));
    }
  }
  return html_paragraph(
             "Rings: spikes, as the detector of training sees them in the logged loss, which takes 40 logged steps. "
             "Losses above what runs "
             "begin with are at the upper edge.") +
         html_row(figures);
}

std::string speed_section(const std::vector<ReportedRun>& runs) {
  constexpr size_t kMost = 8;
  Plot plot{"Tokens a second, all ranks", {"step"}, {"tokens/s"}};
  plot.y.least = 0;
  for (size_t i = 0; i < std::min(runs.size(), kMost); ++i) {
    Series series;
    series.name = runs[i].name;
    series.color = static_cast<int>(i);
    for (const StepMetrics& step : runs[i].run.steps) {
      series.x.push_back(static_cast<double>(step.step));
      series.y.push_back(step.tokens_per_s);
    }
    plot.series.push_back(std::move(series));
  }
  const std::string of = runs.size() > kMost ? html_paragraph(fmt::format("Of the first {} runs.", kMost)) : "";
  return of + html_row({plot_figure(plot)});
}

}  // namespace sluice
