#include <cstdio>
#include <exception>
#include <string_view>

#include <glog/logging.h>

#include "launch/analysis/fit_command.h"
#include "launch/analysis/report_command.h"
#include "parallel/fatal.h"

// What `sluice` starts in its place for commands that need libraries which training must not load. The arguments are
// those that it has checked: fit [--json] [--set FIELD=VALUE]... RUN... | report --out FILE RUN...
int main(int argc, char** argv) {
  using namespace sluice;
  FitOptions options;
  const std::string_view command = argc < 3 ? "" : argv[1];
  if (command != "fit" && command != "report") {
    std::fprintf(stderr, "error: %s is started by sluice; see sluice fit --help and sluice report --help\n", argv[0]);
    return 1;
  }
  std::string out;
  for (int i = 2; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--set" && i + 1 < argc) {
      options.overrides.emplace_back(argv[++i]);
    } else if (argument == "--out" && i + 1 < argc) {
      out = argv[++i];
    } else {
      options.runs.emplace_back(argument);
    }
  }
  // Of Ceres, which also tells of what it recovers from.
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_ERROR;
  google::InitGoogleLogging(argv[0]);
  try {
    if (command == "fit") {
      run_fit(options);
    } else {
      run_report({options.runs, out});
    }
    if (std::fflush(stdout) == 0) return 0;
    std::fprintf(stderr, "error: standard output: cannot write\n");
  } catch (const Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return exit_code(error.fault());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return exit_code(Fault::kInternal);
  }
  return 1;
}
