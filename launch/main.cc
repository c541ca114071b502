#include <cstdio>
#include <cstdlib>
#include <functional>

#include <CLI/CLI.hpp>
#include <glog/logging.h>

#include "launch/commands.h"
#include "launch/data_command.h"
#include "parallel/agree.h"
#include "parallel/fatal.h"

namespace sluice {
namespace {

constexpr int kUserError = 1;
constexpr int kInternalError = 2;

/// What the command line asked for, run once parsing is done.
using Command = std::function<void()>;

void add_config_options(CLI::App& command, ConfigOptions& options) {
  command.add_option("--config", options.file, "configuration in text format")->required();
  command.add_option("--set", options.overrides, "override a field of the schema, path=value; repeatable")
      ->take_all()
      ->allow_extra_args(false);
}

void add_train(CLI::App& app, Command& chosen, PhaseTimer& startup) {
  CLI::App& command = *app.add_subcommand("train", "train a model");
  auto options = std::make_shared<TrainOptions>();
  add_config_options(command, options->config);
  command.add_option("--run", options->run_dir, "folder of the run; default runs/<config>-<date>");
  command.footer("Example: mpirun -np 2 sluice train --config configs/quickstart.textproto --run runs/first");
  command.callback([&chosen, &startup, options] {
    chosen = [&startup, options] {
      Session session;
      startup.mark("ranks");
      run_train(*options, session, startup);
    };
  });
}

void add_eval(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("eval", "held-out loss, perplexity and bits per byte of a checkpoint");
  auto options = std::make_shared<EvalOptions>();
  command.add_option("--checkpoint", options->checkpoint, "a step folder")->required();
  command.add_option("--data", options->prefixes, "prefixes of data sets")->required();
  command.add_option("--length", options->length, "tokens of a window; default as in training")
      ->check(CLI::PositiveNumber);
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice eval --checkpoint runs/first/checkpoints/step_00000600 --data data/prose.heldout");
  command.callback([&chosen, options] {
    chosen = [options] {
      Session session;
      run_eval(*options, session);
    };
  });
}

void add_generate(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("generate", "continue a text");
  auto options = std::make_shared<GenerateCommandOptions>();
  command.add_option("--checkpoint", options->checkpoint, "a step folder")->required();
  command.add_option("--prompt", options->prompt, "text to continue")->required();
  command.add_option("--tokens", options->tokens, "new tokens at most")->capture_default_str();
  command.add_option("--temperature", options->temperature, "0: the likeliest token each time")->capture_default_str();
  command.add_option("--seed", options->seed, "of the draws")->capture_default_str();
  command.footer(
      "Example: sluice generate --checkpoint runs/first/checkpoints/step_00000600 --prompt \"In the beginning\"");
  command.callback([&chosen, options] {
    chosen = [options] {
      Session session;
      run_generate(*options, session);
    };
  });
}

void add_bench(CLI::App& app, Command& chosen) {
  CLI::App& bench = *app.add_subcommand("bench", "speeds beside their limits")->require_subcommand(1);
  CLI::App& command = *bench.add_subcommand("step", "optimizer steps on random tokens");
  auto options = std::make_shared<BenchStepOptions>();
  add_config_options(command, options->config);
  command.add_option("--steps", options->steps, "measured steps")->check(CLI::PositiveNumber)->capture_default_str();
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice bench step --config configs/bench/small.textproto");
  command.callback([&chosen, options] {
    chosen = [options] {
      Session session;
      run_bench_step(*options, session);
    };
  });
}

/// Parses, runs, and turns what was thrown into the one line and the exit code.
int run(int argc, char** argv) {
  PhaseTimer startup;
  CLI::App app("Sluice trains mixture-of-experts language models with gated attention.");
  app.require_subcommand(1);
  Command chosen;
  add_train(app, chosen, startup);
  add_eval(app, chosen);
  add_generate(app, chosen);
  add_data_command(app, chosen);
  add_bench(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUserError;
  }
  try {
    chosen();
    return 0;
  } catch (const AgreedError& error) {
    if (*error.what()) std::fprintf(stderr, "error: %s\n", error.what());
    return error.fault() == Fault::kUser ? kUserError : kInternalError;
  } catch (const Error& error) {
    fatal(error.fault() == Fault::kUser ? kUserError : kInternalError, error.what());
  } catch (const std::exception& error) {
    fatal(kInternalError, error.what());
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  return sluice::run(argc, argv);
}
