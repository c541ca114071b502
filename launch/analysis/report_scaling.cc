#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "kernels/core/error.h"
#include "launch/analysis/page.h"
#include "launch/analysis/plot.h"
#include "launch/analysis/report_sections.h"
#include "launch/analysis/scaling_law.h"

namespace sluice {
namespace {

constexpr double kFlopsPerParameter = 6;

std::vector<ScalingPoint> points_of(const std::vector<ReportedRun>& runs) {
  std::vector<ScalingPoint> points;
  for (const ReportedRun& run : runs) {
    if (!run.finished()) continue;
    points.push_back({static_cast<double>(run.run.parameters.active), run.run.tokens(), run.run.loss});
  }
  return best_points(points);
}

double flops_of(const ScalingPoint& point) { return kFlopsPerParameter * point.parameters * point.tokens; }

std::string frontier_figure(const std::vector<ScalingPoint>& points, const ScalingFit& fit) {
  Plot plot{"Loss over computing", {"FLOPs (6 N D)", true}, {"loss, nats a token", true}};
  std::map<double, Series> by_size;
  double least = flops_of(points.front()), largest = least;
  std::vector<double> sizes;
  for (const ScalingPoint& point : points) sizes.push_back(point.parameters);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  for (const ScalingPoint& point : points) {
    Series& series = by_size[point.parameters];
    series.x.push_back(flops_of(point));
    series.y.push_back(point.loss);
    least = std::min(least, series.x.back());
    largest = std::max(largest, series.x.back());
  }
  for (auto& [size, series] : by_size) {
    const auto rank = static_cast<double>(std::lower_bound(sizes.begin(), sizes.end(), size) - sizes.begin());
    series.name = "N = " + number_text(size);
    series.strength = sizes.size() < 2 ? 1 : 0.4 + 0.6 * rank / static_cast<double>(sizes.size() - 1);
    series.points = true;
    plot.series.push_back(std::move(series));
  }
  Series frontier;
  frontier.name = "best by the law";
  frontier.color = 1;
  constexpr int kPlaces = 40;
  for (int i = 0; i <= kPlaces; ++i) {
    // A decade beyond the runs.
    const double flops = least * std::pow(10 * largest / least, static_cast<double>(i) / kPlaces);
    const double parameters = fit.law().best_parameters(flops);
    frontier.x.push_back(flops);
    frontier.y.push_back(fit.law().loss(parameters, flops / kFlopsPerParameter / parameters));
  }
  plot.series.push_back(std::move(frontier));
  return plot_figure(plot);
}

std::string residual_figure(const std::vector<ScalingPoint>& points, const ScalingFit& fit) {
  Plot plot{"What the law leaves", {"loss by the law, nats a token"}, {"log of loss over the law's"}};
  Series series;
  series.line = false;
  series.points = true;
  for (size_t i = 0; i < points.size(); ++i) {
    series.x.push_back(fit.law().loss(points[i].parameters, points[i].tokens));
    series.y.push_back(fit.residuals()[i]);
  }
  plot.series.push_back(std::move(series));
  return plot_figure(plot);
}

std::string iso_figure(const std::vector<IsoFlop>& isos) {
  Plot plot{"Best size by parabolas of equal FLOPs", {"FLOPs", true}, {"N", true}};
  Series series;
  series.points = true;
  for (const IsoFlop& iso : isos) {
    if (iso.best_parameters <= 0) continue;
    series.x.push_back(iso.flops);
    series.y.push_back(iso.best_parameters);
  }
  if (series.x.empty()) return "";
  plot.series.push_back(std::move(series));
  return plot_figure(plot);
}

std::string constants_table(const ScalingFit& fit) {
  HtmlTable table{{"", "value", "95 % from", "to"}};
  const auto values = constants_of(fit.law());
  const auto intervals = fit.intervals();
  for (size_t i = 0; i < values.size(); ++i) {
    table.rows.push_back(
        {kLawNames[i], number_text(values[i]), number_text(intervals[i].low), number_text(intervals[i].high)});
  }
  return html_table(table);
}

std::string budget_table(const std::vector<ScalingPoint>& points, const ScalingFit& fit) {
  double largest = 0;
  for (const ScalingPoint& point : points) largest = std::max(largest, flops_of(point));
  HtmlTable table{{"FLOPs", "best N", "95 % from", "to", "tokens", "loss", "95 % from", "to"}};
  for (const double flops : {largest, 10 * largest, 100 * largest}) {
    const double n = fit.law().best_parameters(flops), d = flops / kFlopsPerParameter / n;
    const Interval size = fit.best_parameters(flops), loss = fit.loss(n, d);
    table.rows.push_back({number_text(flops), number_text(n), number_text(size.low), number_text(size.high),
                          number_text(d), number_text(fit.law().loss(n, d)), number_text(loss.low),
                          number_text(loss.high)});
  }
  return html_table(table);
}

std::string scaling_body(const std::vector<ScalingPoint>& points) {
  constexpr int kDraws = 200;
  const ScalingFit fit(points, kDraws, 1);
  return html_paragraph(
             "L(N, D) = E + A / N^alpha + B / D^beta, N the active parameters, D tokens, of the best run of each N and "
             "D; "
             "intervals are of samples of the runs. sluice fit has more.") +
         html_row({frontier_figure(points, fit), residual_figure(points, fit), iso_figure(iso_flops(points))}) +
         constants_table(fit) + budget_table(points, fit);
}

}  // namespace

std::string scaling_section(const std::vector<ReportedRun>& runs) {
  const std::vector<ScalingPoint> points = points_of(runs);
  if (!why_no_law(points).empty()) return "";
  bool held_out = false, of_training = false;
  for (const ReportedRun& run : runs) {
    if (run.finished()) (run.run.held_out ? held_out : of_training) = true;
  }
  if (held_out && of_training) {
    return html_paragraph(
        "Some runs have a loss on evaluation sets at their end and others have not: they cannot be compared.");
  }
  try {
    return scaling_body(points);
  } catch (const Error& error) {
    return html_paragraph(error.what());
  }
}

}  // namespace sluice
