#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "launch/analysis/page.h"
#include "launch/analysis/plot.h"
#include "launch/analysis/report_sections.h"
#include "runtime/files/json_depth.h"

namespace sluice {
namespace {

/// What a run has last measured in each layer; empty: never.
std::vector<double> last_of(const ReportedRun& run, std::vector<double> LayerMetrics::*which) {
  const auto& steps = run.run.steps;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (!(step->layers.*which).empty()) return step->layers.*which;
  }
  return {};
}

std::string layer_figure(const std::string& title, const std::string& y_title, bool log_y,
                         const std::vector<const ReportedRun*>& runs, std::vector<double> LayerMetrics::*which) {
  Plot plot{title, {"layer"}, {y_title, log_y}};
  plot.x.whole = true;
  if (!log_y) plot.y.least = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    Series series;
    series.name = runs[i]->name;
    series.color = static_cast<int>(i);
    series.points = true;
    series.y = last_of(*runs[i], which);
    for (size_t layer = 0; layer < series.y.size(); ++layer) series.x.push_back(static_cast<double>(layer));
    if (!series.y.empty()) plot.series.push_back(std::move(series));
  }
  return plot.series.empty() ? "" : plot_figure(plot);
}

/// A row a layer, a column a logged step.
std::string over_steps(const ReportedRun& run, const std::string& title, std::vector<double> LayerMetrics::*which) {
  constexpr size_t kMostColumns = 60;
  HeatMap map{title + ", " + run.name, "step", "layer"};
  std::vector<const StepMetrics*> steps;
  for (const StepMetrics& step : run.run.steps) {
    if (!(step.layers.*which).empty()) steps.push_back(&step);
  }
  const size_t columns = std::min(steps.size(), kMostColumns);
  for (size_t column = 0; column < columns; ++column) {
    const StepMetrics& step = *steps[columns == 1 ? 0 : column * (steps.size() - 1) / (columns - 1)];
    const std::vector<double>& values = step.layers.*which;
    map.rows.resize(std::max(map.rows.size(), values.size()));
    for (size_t layer = 0; layer < values.size(); ++layer) {
      map.rows[layer].resize(column + 1, std::nan(""));
      map.rows[layer][column] = values[layer];
    }
    map.x_labels.push_back(std::to_string(step.step));
  }
  return heat_map_figure(map);
}

/// Of RUN/diagnostics.json, as `sluice eval --diagnostics --json` prints it: the diagnostics of its first data set.
/// Null: there is no such file. Throws Error naming it when it is something else.
nlohmann::json diagnostics_of(const ReportedRun& run) {
  const std::string path = run.run.folder + "/diagnostics.json";
  if (!std::filesystem::exists(path)) return nullptr;
  std::ifstream file(path);
  const nlohmann::json json = nlohmann::json::parse(file, depth_limit(path), false);
  const bool whole = json.is_object() && json.contains("sets") && json["sets"].is_array() && !json["sets"].empty() &&
                     json["sets"][0].is_object() && json["sets"][0].contains("diagnostics") &&
                     json["sets"][0]["diagnostics"].contains("layers");
  ENSURE(whole, path, ": is not what sluice eval --diagnostics --json prints");
  return json["sets"][0]["diagnostics"];
}

/// Shares of scores in equal bins, a row a layer, of the layers' gate of this number.
std::string score_figure(const ReportedRun& run, const nlohmann::json& diagnostics, size_t number) {
  HeatMap map{"", "score", "layer"};
  for (const nlohmann::json& layer : diagnostics.at("layers")) {
    map.rows.emplace_back();
    if (number >= layer.at("gates").size()) continue;
    const nlohmann::json& gate = layer.at("gates").at(number);
    map.title = fmt::format("Share of {} scores, {}", gate.at("position").get<std::string>(), run.name);
    const auto density = gate.at("density").get<std::vector<double>>();
    double sum = 0;
    for (const double d : density) sum += d;
    for (const double d : density) map.rows.back().push_back(sum > 0 ? d / sum : 0);
    const auto low = gate.at("lowest").get<double>(), high = gate.at("highest").get<double>();
    if (!map.x_labels.empty()) continue;
    for (size_t i = 0; i < density.size(); ++i) {
      const double share = (static_cast<double>(i) + 0.5) / static_cast<double>(density.size());
      map.x_labels.push_back(fmt::format("{:.2f}", low + (high - low) * share));
    }
  }
  return heat_map_figure(map);
}

/// A map of no more rows and columns than can be told apart, each the mean of several.
std::vector<std::vector<double>> pooled(const std::vector<std::vector<double>>& map) {
  constexpr size_t kMost = 64;
  const size_t by = (map.size() + kMost - 1) / kMost;
  if (by <= 1) return map;
  const size_t size = (map.size() + by - 1) / by;
  std::vector<std::vector<double>> out(size, std::vector<double>(size)), counts = out;
  for (size_t row = 0; row < map.size(); ++row) {
    for (size_t column = 0; column < std::min(map[row].size(), map.size()); ++column) {
      out[row / by][column / by] += map[row][column];
      ++counts[row / by][column / by];
    }
  }
  for (size_t row = 0; row < size; ++row) {
    for (size_t column = 0; column < size; ++column) out[row][column] /= std::max(counts[row][column], 1.0);
  }
  return out;
}

std::vector<std::string> attention_figures(const ReportedRun& run, const nlohmann::json& diagnostics) {
  std::vector<std::string> figures;
  const nlohmann::json& layers = diagnostics.at("layers");
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    if (!layers[layer].contains("attention_map")) continue;
    HeatMap map{fmt::format("Mean attention in layer {}, {}", layer, run.name), "key", "query"};
    const auto whole = layers[layer]["attention_map"].get<std::vector<std::vector<double>>>();
    map.rows = pooled(whole);
    const size_t by = (whole.size() + map.rows.size() - 1) / std::max<size_t>(map.rows.size(), 1);
    for (size_t i = 0; by > 1 && i < map.rows.size(); ++i) map.x_labels.push_back(std::to_string(i * by));
    map.y_labels = map.x_labels;
    figures.push_back(heat_map_figure(map));
  }
  return figures;
}

/// The figures of one run's diagnostics.
std::vector<std::string> diagnostics_figures(const ReportedRun& run) {
  const nlohmann::json diagnostics = diagnostics_of(run);
  if (diagnostics.is_null()) return {};
  try {
    std::vector<std::string> figures;
    size_t gates = 0;
    for (const nlohmann::json& layer : diagnostics.at("layers")) gates = std::max(gates, layer.at("gates").size());
    for (size_t gate = 0; gate < gates; ++gate) figures.push_back(score_figure(run, diagnostics, gate));
    for (std::string& figure : attention_figures(run, diagnostics)) figures.push_back(std::move(figure));
    return figures;
  } catch (const nlohmann::json::exception& error) {
    ENSURE(false, run.run.folder, "/diagnostics.json: ", error.what());
  }
  return {};
}

}  // namespace

std::string layers_section(const std::vector<const ReportedRun*>& chosen) {
  std::vector<std::string> figures = {
      layer_figure("Attention to the first token", "share", false, chosen, &LayerMetrics::first_token_attention),
      layer_figure("Largest activation", "|x| of the residual stream", true, chosen, &LayerMetrics::max_activation),
      layer_figure("Busiest expert", "tokens over the mean", false, chosen, &LayerMetrics::expert_load_max_over_mean),
      layer_figure("Largest attention logit", "logit", true, chosen, &LayerMetrics::attention_logit_max)};
  for (const ReportedRun* run : chosen) {
    figures.push_back(over_steps(*run, "Busiest expert over the mean", &LayerMetrics::expert_load_max_over_mean));
    figures.push_back(over_steps(*run, "Attention to the first token", &LayerMetrics::first_token_attention));
  }
  const std::string body = html_row(figures);
  if (body.empty()) return "";
  return html_paragraph(fmt::format("Of the best run of each of the first {} variants, in the last step that tells it.",
                                    kMostChosen)) +
         body;
}

std::string gates_section(const std::vector<const ReportedRun*>& chosen, const std::vector<ReportedRun>& runs) {
  std::vector<std::string> figures = {
      layer_figure("Mean gate score", "score", false, chosen, &LayerMetrics::gate_mean)};
  bool diagnosed = false;
  for (const ReportedRun& run : runs) {
    for (std::string& figure : diagnostics_figures(run)) {
      diagnosed = true;
      figures.push_back(std::move(figure));
    }
  }
  const std::string body = html_row(figures);
  if (body.empty() || diagnosed) return body;
  return body +
         html_paragraph(
             "Distributions of gate scores and attention maps come with RUN/diagnostics.json, the output of sluice "
             "eval --checkpoint STEPDIR --data PREFIX --diagnostics --json --set "
             "'evaluation.attention_map={layers: 0}'.");
}

}  // namespace sluice
