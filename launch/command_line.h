#pragma once

#include <charconv>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "launch/on_ranks.h"
#include "runtime/files/nearest_name.h"

// Pieces of a command line's description, for main.cc.
namespace sluice {

/// What the command line asked for, run once parsing is done; returns the exit code.
using Command = std::function<int()>;

/// Checks that the words before the first option name a command. Throws CLI::ParseError with the commands that there
/// are.
inline void check_command(const CLI::App& app, int argc, char** argv) {
  const CLI::App* command = &app;
  for (int i = 1; i < argc && *argv[i] != '-'; ++i) {
    const std::string word = argv[i];
    const CLI::App* next = nullptr;
    std::vector<std::string> names;
    for (const CLI::App* each : command->get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(each->get_name());
      if (names.back() == word) next = each;
    }
    if (names.empty()) return;
    if (!next) {
      constexpr int kMostChanges = 2;
      const std::string nearest = nearest_name(word, names, kMostChanges);
      std::string message = "unknown command \"" + word + "\"";
      if (!nearest.empty()) message += "; did you mean \"" + nearest + "\"?";
      for (const std::string& name : names) message += (name == names.front() ? " (commands: " : ", ") + name;
      throw CLI::ParseError(message + ")", CLI::ExitCodes::InvalidError);
    }
    command = next;
  }
}

/// Whole numbers of 64 bits from `least` on.
template <class Int>
CLI::Validator from(Int least) {
  const auto check = [least](std::string& text) -> std::string {
    Int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size() && value >= least) return "";
    if constexpr (std::numeric_limits<Int>::is_signed) return concat("must be ", least, " or more, got ", text);
    return concat("must be between ", least, " and ", std::numeric_limits<Int>::max(), ", got ", text);
  };
  return CLI::Validator(check, "");
}

/// What a command does with its options, on the first rank.
template <class Options>
void does(CLI::App& command, Command& chosen, const std::shared_ptr<Options>& options, void (*run)(const Options&)) {
  command.callback(
      [&chosen, options, run] { chosen = [options, run] { return on_first_rank([&] { run(*options); }); }; });
}

/// The same on every rank.
template <class Options>
void does(CLI::App& command, Command& chosen, const std::shared_ptr<Options>& options,
          void (*run)(const Options&, Session&)) {
  command.callback([&chosen, options, run] {
    chosen = [options, run] { return in_session([&](Session& session) { run(*options, session); }); };
  });
}

inline void add_overrides(CLI::App& command, std::vector<std::string>& overrides) {
  command.add_option("--set", overrides, "override a field of the schema, path=value; repeatable")
      ->take_all()
      ->allow_extra_args(false);
}

}  // namespace sluice
