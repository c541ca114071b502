#include "launch/analysis/fit_command.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "configs/study.pb.h"
#include "launch/analysis/scaling_law.h"
#include "launch/study/finished_run.h"
#include "runtime/config_report.h"
#include "runtime/files/text_message.h"

namespace sluice {
namespace {

// Operations an active parameter and token, forward and backward.
constexpr double kFlopsPerParameter = 6;

FitConfig fit_config(const std::vector<std::string>& overrides) {
  FitConfig config;
  for (const std::string& override_text : overrides) {
    const size_t equals = override_text.find('=');
    ENSURE(equals != std::string::npos, "--set ", override_text, ": expected field=value");
    const std::string field = override_text.substr(0, equals);
    const std::string problems =
        merge_text(field + ": " + override_text.substr(equals + 1), "--set " + override_text, config);
    ENSURE(problems.empty(), problems);
  }
  ConfigReport report;
  report.above_zero("huber", config.huber());
  report.check(config.draws() >= 20 && config.draws() <= 100000, "draws=", config.draws(),
               " must be between 20 and 100000");
  report.check(config.level() > 0 && config.level() < 1, "level=", config.level(), " must be between 0 and 1");
  for (const double budget : config.budget()) report.above_zero("budget", budget);
  report.finish();
  return config;
}

struct FitInput {
  std::vector<FinishedRun> runs;
  std::vector<ScalingPoint> points;  ///< the best of each size and length, of those that are not left out
  /// Operations a token and a parameter, as they are counted; 0: runs differ in the share of their active ones, so that
  /// no budget follows from them.
  double flops_per_parameter = kFlopsPerParameter;
};

/// Sets flops_per_parameter from shares of active parameters.
void set_flops(std::vector<double> shares, FitInput& input) {
  constexpr double kAlike = 1.02;
  if (shares.empty()) return;
  std::sort(shares.begin(), shares.end());
  const bool alike = shares.back() <= kAlike * shares.front();
  input.flops_per_parameter = alike ? kFlopsPerParameter * shares[shares.size() / 2] : 0;
}

FitInput fit_input(const FitOptions& options, const FitConfig& config) {
  FitInput input;
  input.runs = read_runs(options.runs);
  bool held_out = true, of_training = true;
  std::vector<double> shares;
  for (const FinishedRun& run : input.runs) {
    if (!run.left_out.empty()) continue;
    (run.held_out ? of_training : held_out) = false;
    const double active = static_cast<double>(run.parameters.active), total = static_cast<double>(run.parameters.total);
    const bool counts_all = config.parameters() == FitConfig::TOTAL;
    input.points.push_back({counts_all ? total : active, run.tokens(), run.loss});
    shares.push_back(counts_all ? active / total : 1);
  }
  set_flops(std::move(shares), input);
  input.points = best_points(input.points);
  ENSURE(held_out || of_training || input.points.empty(),
         "some runs have a loss on evaluation sets at their end and others have not: they cannot be compared");
  return input;
}

std::vector<double> budgets_of(const FitConfig& config, const FitInput& input) {
  if (input.flops_per_parameter == 0) return {};
  if (config.budget_size() > 0) return {config.budget().begin(), config.budget().end()};
  double largest = 0;
  for (const ScalingPoint& p : input.points) {
    largest = std::max(largest, input.flops_per_parameter * p.parameters * p.tokens);
  }
  return {10 * largest, 100 * largest};
}

/// What a budget buys by the law.
struct Extrapolation {
  double flops, parameters, tokens, loss;
  Interval parameters_interval, loss_interval;
};
Extrapolation extrapolate(const ScalingFit& fit, const FitInput& input, double flops, double level) {
  Extrapolation at{};
  at.flops = flops;
  at.parameters = fit.law().best_parameters(flops, input.flops_per_parameter);
  at.tokens = flops / input.flops_per_parameter / at.parameters;
  at.loss = fit.law().loss(at.parameters, at.tokens);
  at.parameters_interval = fit.best_parameters(flops, input.flops_per_parameter, level);
  at.loss_interval = fit.loss(at.parameters, at.tokens, level);
  return at;
}

std::vector<IsoFlop> isos_of(const FitInput& input) {
  return input.flops_per_parameter > 0 ? iso_flops(input.points, input.flops_per_parameter) : std::vector<IsoFlop>{};
}

nlohmann::ordered_json to_json(const Interval& interval) { return {interval.low, interval.high}; }

void print_json(const FitConfig& config, const FitInput& input, const ScalingFit& fit) {
  nlohmann::ordered_json out;
  out["runs"] = input.points.size();
  out["left_out"] = nlohmann::ordered_json::array();
  for (const FinishedRun& run : input.runs) {
    if (!run.left_out.empty()) out["left_out"].push_back({{"run", run.folder}, {"reason", run.left_out}});
  }
  out["parameters"] = FitConfig::Parameters_Name(config.parameters());
  out["level"] = config.level();
  const auto values = constants_of(fit.law());
  const auto intervals = fit.intervals(config.level());
  for (size_t i = 0; i < values.size(); ++i) {
    out["law"][kLawNames[i]] = {{"value", values[i]}, {"interval", to_json(intervals[i])}};
  }
  out["extrapolations"] = nlohmann::ordered_json::array();
  for (const double flops : budgets_of(config, input)) {
    const Extrapolation at = extrapolate(fit, input, flops, config.level());
    out["extrapolations"].push_back({{"flops", at.flops},
                                     {"best_parameters", at.parameters},
                                     {"best_parameters_interval", to_json(at.parameters_interval)},
                                     {"tokens", at.tokens},
                                     {"loss", at.loss},
                                     {"loss_interval", to_json(at.loss_interval)}});
  }
  out["iso_flops"] = nlohmann::ordered_json::array();
  for (const IsoFlop& iso : isos_of(input)) {
    nlohmann::ordered_json line = {{"flops", iso.flops}, {"runs", iso.runs}};
    if (iso.best_parameters > 0) {
      line["best_parameters"] = iso.best_parameters;
      line["best_loss"] = iso.best_loss;
    }
    out["iso_flops"].push_back(line);
  }
  fmt::print("{}\n", out.dump());
}

void print_tables(const FitConfig& config, const FitInput& input, const ScalingFit& fit) {
  fmt::print(
      "L(N, D) = E + A / N^alpha + B / D^beta over the best runs of {} sizes and lengths, N the {} parameters, D "
      "tokens\n\n",
      input.points.size(), config.parameters() == FitConfig::TOTAL ? "total" : "active");
  const auto values = constants_of(fit.law());
  const auto intervals = fit.intervals(config.level());
  fmt::print("{:<8} {:>14} {:>14} {:>14}\n", "", "value", fmt::format("{:g} % from", 100 * config.level()), "to");
  for (size_t i = 0; i < values.size(); ++i) {
    fmt::print("{:<8} {:>14.6g} {:>14.6g} {:>14.6g}\n", kLawNames[i], values[i], intervals[i].low, intervals[i].high);
  }
  if (input.flops_per_parameter > 0) {
    fmt::print("\n{:>12} {:>14} {:>31} {:>14} {:>9} {:>21}\n", "FLOPs", "best N", "from .. to", "D", "loss",
               "from .. to");
    for (const double flops : budgets_of(config, input)) {
      const Extrapolation at = extrapolate(fit, input, flops, config.level());
      fmt::print("{:>12.4g} {:>14.5g} {:>31} {:>14.5g} {:>9.4f} {:>21}\n", at.flops, at.parameters,
                 fmt::format("{:.5g} .. {:.5g}", at.parameters_interval.low, at.parameters_interval.high), at.tokens,
                 at.loss, fmt::format("{:.4f} .. {:.4f}", at.loss_interval.low, at.loss_interval.high));
    }
  } else {
    fmt::print(
        "\nno budget: runs differ in the share of their parameters that is active, which is what computing takes\n");
  }
  const std::vector<IsoFlop> isos = isos_of(input);
  if (!isos.empty())
    fmt::print("\n{:>12} {:>6} {:>14} {:>9}   parabolas of equal FLOPs\n", "FLOPs", "runs", "best N", "loss");
  for (const IsoFlop& iso : isos) {
    const bool found = iso.best_parameters > 0;
    fmt::print("{:>12.4g} {:>6} {:>14} {:>9}\n", iso.flops, iso.runs,
               found ? fmt::format("{:.5g}", iso.best_parameters) : "-",
               found ? fmt::format("{:.4f}", iso.best_loss) : "-");
  }
  for (const FinishedRun& run : input.runs) {
    if (!run.left_out.empty()) fmt::print("left out: {}: {}\n", run.folder, run.left_out);
  }
}

}  // namespace

void run_fit(const FitOptions& options) {
  const FitConfig config = fit_config(options.overrides);
  const FitInput input = fit_input(options, config);
  std::string left_out;
  for (const FinishedRun& run : input.runs) {
    if (!run.left_out.empty()) left_out += concat("; left out ", run.folder, ": ", run.left_out);
  }
  const std::string why = why_no_law(input.points);
  ENSURE(why.empty(), why, left_out);
  const ScalingFit fit(input.points, static_cast<int>(config.draws()), static_cast<uint64_t>(config.seed()),
                       config.huber());
  if (options.json) return print_json(config, input, fit);
  print_tables(config, input, fit);
}

}  // namespace sluice
