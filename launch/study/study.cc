#include "launch/study/study.h"

#include <cctype>
#include <cmath>
#include <filesystem>
#include <set>

#include "runtime/config.h"
#include "runtime/config_report.h"
#include "runtime/files/mapped_file.h"
#include "runtime/files/text_message.h"

namespace sluice {
namespace {

constexpr size_t kMostCells = 100000;
constexpr size_t kLongestName = 200;

/// What may stand in a folder's name.
std::string file_name_part(std::string text) {
  for (char& c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '+' || c == '.' || c == '_';
    if (!plain) c = '_';
  }
  return text;
}

void check_axis(const Study::Axis& axis, int number, ConfigReport& report) {
  const std::string field = concat("axis[", number, "]");
  report.check(!axis.name().empty(), field, ".name is missing");
  const bool of_field = !axis.field().empty() && axis.value_size() > 0 && axis.choice_size() == 0;
  const bool of_choices = axis.field().empty() && axis.value_size() == 0 && axis.choice_size() > 0;
  report.check(of_field || of_choices, field, " (", axis.name(),
               ") needs either a field and values of it, or choices that have a name and set fields");
  for (int i = 0; i < axis.choice_size(); ++i) {
    report.check(!axis.choice(i).name().empty(), field, ".choice[", i, "].name is missing");
  }
}

void check(const Study& study, const std::string& file) {
  ConfigReport report;
  report.check(!study.config().empty(), "config is missing: the configuration of all cells");
  for (int i = 0; i < study.axis_size(); ++i) check_axis(study.axis(i), i, report);
  report.positive("ranks", true, study.ranks());
  report.positive("attempts", true, study.attempts());
  const StopRule& stop = study.stop();
  constexpr int64_t kLongestWindow = 1000000;
  report.positive("stop.window", true, stop.window(), kLongestWindow);
  report.check(stop.after_steps() >= 0, "stop.after_steps=", stop.after_steps(), " must not be negative");
  if (stop.has_loss_above()) report.above_zero("stop.loss_above", stop.loss_above());
  if (stop.has_rise()) report.above_zero("stop.rise", stop.rise());
  try {
    report.finish();
  } catch (const Error& error) {
    ENSURE(false, file, ": ", error.what());
  }
}

/// A cell on its way: what it is called and sets so far.
struct Choice {
  std::vector<std::pair<std::string, std::string>> names;
  std::vector<std::string> overrides;
};

/// What an axis may add to a cell.
std::vector<Choice> choices_of(const Study::Axis& axis) {
  std::vector<Choice> choices;
  for (const std::string& value : axis.value()) {
    choices.push_back({{{axis.name(), value}}, {axis.field() + "=" + value}});
  }
  for (const Study::Choice& choice : axis.choice()) {
    choices.push_back({{{axis.name(), choice.name()}}, {choice.set().begin(), choice.set().end()}});
  }
  return choices;
}

std::vector<Choice> choices_of_seeds(const Study& study) {
  std::vector<Choice> choices;
  for (const int64_t seed : study.seed()) {
    choices.push_back({{{"seed", std::to_string(seed)}}, {concat("training.seed=", seed)}});
  }
  return choices;
}

std::vector<Choice> product(const std::vector<Choice>& cells, const std::vector<Choice>& choices) {
  ENSURE(choices.size() <= kMostCells / cells.size(), "more than ", kMostCells, " cells");
  std::vector<Choice> all;
  for (const Choice& cell : cells) {
    for (const Choice& choice : choices) {
      Choice both = cell;
      both.names.insert(both.names.end(), choice.names.begin(), choice.names.end());
      both.overrides.insert(both.overrides.end(), choice.overrides.begin(), choice.overrides.end());
      all.push_back(std::move(both));
    }
  }
  return all;
}

std::string name_of(const Choice& choice) {
  std::string name;
  for (const auto& [axis, value] : choice.names) {
    name += concat(name.empty() ? "" : ",", file_name_part(axis), "=", file_name_part(value));
  }
  return name.empty() ? "only" : name;
}

}  // namespace

Study load_study(const std::string& file) {
  Study study;
  const std::string problems = merge_text(std::string(MappedFile(file).bytes()), file, study);
  ENSURE(problems.empty(), problems);
  check(study, file);
  return study;
}

std::vector<Cell> cells_of(const Study& study, const std::string& file) {
  const std::string config = (std::filesystem::path(file).parent_path() / study.config()).string();
  std::vector<Choice> choices = {{{}, {study.set().begin(), study.set().end()}}};
  for (const Study::Axis& axis : study.axis()) choices = product(choices, choices_of(axis));
  if (study.seed_size() > 0) choices = product(choices, choices_of_seeds(study));
  std::vector<Cell> cells;
  std::set<std::string> names;
  for (Choice& choice : choices) {
    Cell cell{name_of(choice), std::move(choice.names), {}};
    ENSURE(cell.name.size() <= kLongestName, file, ": the name of a cell is longer than ", kLongestName,
           " characters: ", cell.name);
    ENSURE(names.insert(cell.name).second, file, ": two cells have the name ", cell.name);
    try {
      cell.config = load_config(config, choice.overrides);
    } catch (const Error& error) {
      ENSURE(false, file, ": cell ", cell.name, ": ", error.what());
    }
    cells.push_back(std::move(cell));
  }
  return cells;
}

}  // namespace sluice
