#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include <CLI/CLI.hpp>
#include <glog/logging.h>

#include "launch/checkpoint_command.h"
#include "launch/command_line.h"
#include "launch/commands.h"
#include "launch/convert_command.h"
#include "launch/data_command.h"
#include "launch/plan_command.h"
#include "launch/sibling.h"
#include "launch/spikes_command.h"
#include "parallel/fatal.h"
#include "runtime/signals.h"

namespace sluice {
namespace {

void add_config_options(CLI::App& command, ConfigOptions& options) {
  command.add_option("--config", options.file, "configuration in text format")->required();
  add_overrides(command, options.overrides);
}

void add_train(CLI::App& app, Command& chosen, PhaseTimer& startup) {
  CLI::App& command = *app.add_subcommand("train", "train a model");
  auto options = std::make_shared<TrainOptions>();
  add_config_options(command, options->config);
  CLI::Option* run = command.add_option(
      "--run", options->run_dir, "folder of the run, which goes on if it is there; default runs/<config>-<date>");
  command
      .add_option("--replay-step", options->replay_step,
                  "run this step of the run again from the checkpoint before it, and compare to the last bit")
      ->needs(run)
      ->check(from<int64_t>(1));
  command.footer("Example: mpirun -np 2 sluice train --config configs/quickstart.textproto --run runs/first");
  command.callback([&chosen, &startup, options] {
    if (options->replay_step == 0) heed_stop_signals();
    chosen = [&startup, options] {
      return in_session([&](Session& session) {
        startup.mark("ranks");
        run_train(*options, session, startup);
      });
    };
  });
}

void add_sweep(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("sweep", "the runs of a study, as many at a time as there are ranks");
  auto options = std::make_shared<SweepOptions>();
  command.add_option("--study", options->study, "study in text format")->required();
  command.add_option("--run", options->run_dir, "folder of the study, which goes on if it is there")->required();
  command.footer(
      "Example: mpirun -np 2 --enable-recovery sluice sweep --study configs/studies/learning_rates.textproto "
      "--run runs/rates");
  command.parse_complete_callback(heed_stop_signals);
  does(command, chosen, options, run_sweep);
}

void add_eval(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("eval", "held-out loss, perplexity and bits per byte of a checkpoint");
  auto options = std::make_shared<EvalOptions>();
  command.add_option("--checkpoint", options->checkpoint, "a step folder")->required();
  command.add_option("--data", options->prefixes, "prefixes of data sets")->required();
  add_overrides(command, options->overrides);
  command.add_option("--length", options->length, "tokens of a window; default as in training")
      ->check(from<int64_t>(1));
  command.add_flag("--diagnostics", options->diagnostics,
                   "attention to the first token, gate scores, magnitudes and routing of every layer");
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice eval --checkpoint runs/first/checkpoints/step_00000400 --data data/prose.heldout");
  does(command, chosen, options, run_eval);
}

void add_generate(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("generate", "continue a text");
  auto options = std::make_shared<GenerateCommandOptions>();
  command.add_option("--checkpoint", options->checkpoint, "a step folder")->required();
  command.add_option("--prompt", options->prompt, "text to continue")->required();
  command.add_option("--tokens", options->tokens, "new tokens at most")->capture_default_str();
  command.add_option("--temperature", options->temperature, "0: the likeliest token each time")->capture_default_str();
  command.add_option("--seed", options->seed, "of the draws")->check(from<uint64_t>(0))->capture_default_str();
  command.footer(
      "Example: sluice generate --checkpoint runs/first/checkpoints/step_00000400 --prompt \"In the beginning\"");
  does(command, chosen, options, run_generate);
}

void add_verify(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("verify", "whether a layout computes what one rank computes, in f64");
  auto options = std::make_shared<VerifyOptions>();
  add_config_options(command, options->config);
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer(
      "Example: mpirun -np 4 sluice verify --config configs/quickstart.textproto --set mesh.tp=2 "
      "--set mesh.ep=4");
  does(command, chosen, options, run_verify);
}

void add_data_tokenizer(CLI::App& data, Command& chosen) {
  CLI::App& command = *data.add_subcommand("tokenizer", "train a byte-level BPE tokenizer");
  auto options = std::make_shared<DataTokenizerOptions>();
  command.add_option("--vocab", options->vocab, "tokens")->required();
  command.add_option("--out", options->out, "tokenizer.json to write")->required();
  command.add_option("files", options->files, "text, or JSONL; .gz and .zst too")->required();
  command.footer("Example: sluice data tokenizer --vocab 4096 --out tokenizer.json texts/*.txt");
  does(command, chosen, options, run_data_tokenizer);
}

void add_data_build(CLI::App& data, Command& chosen) {
  CLI::App& command = *data.add_subcommand("build", "encode text into PREFIX.bin and PREFIX.idx");
  auto options = std::make_shared<DataBuildOptions>();
  command.add_option("--tokenizer", options->tokenizer, "bytes, a tokenizer.json or a .tiktoken file")->required();
  command.add_option("--out", options->out, "PREFIX")->required();
  command.add_option("--held-out", options->held_out_percent, "percent of the documents for PREFIX.heldout");
  command.add_option("--workers", options->workers, "threads; default all cores");
  command.add_option("files", options->files, "text, one document each, or JSONL; .gz and .zst too")->required();
  command.footer("Example: sluice data build --tokenizer tokenizer.json --out data/prose --held-out 4 texts/*.txt");
  does(command, chosen, options, run_data_build);
}

void add_data_info(CLI::App& data, Command& chosen) {
  CLI::App& command = *data.add_subcommand("info", "what is in a data set");
  auto prefix = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command.add_option("prefix", *prefix, "PREFIX of the data set")->required();
  command.add_flag("--json", *json, "one JSON object on standard output");
  command.footer("Example: sluice data info data/prose");
  command.callback([&chosen, prefix, json] {
    chosen = [prefix, json] { return on_first_rank([&] { run_data_info(*prefix, *json); }); };
  });
}

void add_data(CLI::App& app, Command& chosen) {
  CLI::App& data = *app.add_subcommand("data", "tokenizers and data sets")->require_subcommand(1);
  data.footer("Example: sluice data build --tokenizer bytes --out data/mine texts/*.txt");
  add_data_tokenizer(data, chosen);
  add_data_build(data, chosen);
  add_data_info(data, chosen);
}

void add_checkpoint_list(CLI::App& checkpoint, Command& chosen) {
  CLI::App& command = *checkpoint.add_subcommand("list", "the checkpoints of a run, those that are no good too");
  auto options = std::make_shared<CheckpointListOptions>();
  command.add_option("run", options->run_dir, "folder of the run")->required();
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice checkpoint list runs/first");
  does(command, chosen, options, run_checkpoint_list);
}

void add_checkpoint_verify(CLI::App& checkpoint, Command& chosen) {
  CLI::App& command =
      *checkpoint.add_subcommand("verify", "check every byte of a checkpoint, and that none is missing");
  auto options = std::make_shared<CheckpointVerifyOptions>();
  command.add_option("checkpoint", options->checkpoint, "a step folder")->required();
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice checkpoint verify runs/first/checkpoints/step_00000400");
  does(command, chosen, options, run_checkpoint_verify);
}

void add_checkpoint_diff(CLI::App& checkpoint, Command& chosen) {
  CLI::App& command =
      *checkpoint.add_subcommand("diff", "what differs between two checkpoints, whatever their layouts");
  auto options = std::make_shared<CheckpointDiffOptions>();
  command.add_option("a", options->a, "a step folder")->required();
  command.add_option("b", options->b, "another one")->required();
  command.add_flag("--json", options->json, "one JSON object on standard output; `equal` tells the result");
  command.footer("Example: sluice checkpoint diff runs/a/checkpoints/step_00000400 runs/b/checkpoints/step_00000400");
  does(command, chosen, options, run_checkpoint_diff);
}

void add_checkpoint_reshard(CLI::App& checkpoint, Command& chosen) {
  CLI::App& command = *checkpoint.add_subcommand("reshard", "write a checkpoint anew, in another number of files");
  auto options = std::make_shared<CheckpointReshardOptions>();
  command.add_option("checkpoint", options->checkpoint, "a step folder")->required();
  command.add_option("out", options->out, "folder to write, which is empty or not yet there")->required();
  command.add_option("--shards", options->shards, "files to divide it into")->required()->check(from<int>(1));
  command.footer("Example: sluice checkpoint reshard runs/first/checkpoints/step_00000400 resharded --shards 8");
  does(command, chosen, options, run_checkpoint_reshard);
}

void add_format_option(CLI::App& command, std::string& format) {
  command.add_option("--format", format, "qwen3_moe, qwen3_gated or sluice")->required();
}

void add_checkpoint_export(CLI::App& checkpoint, Command& chosen) {
  CLI::App& command = *checkpoint.add_subcommand("export", "write a checkpoint's weights in another format");
  auto options = std::make_shared<ConvertOptions>();
  command.add_option("checkpoint", options->from, "a step folder")->required();
  command.add_option("out", options->to, "folder to write, new or empty")->required();
  add_format_option(command, options->format);
  command.footer("Example: sluice checkpoint export runs/first/checkpoints/step_00000400 exported --format qwen3_moe");
  does(command, chosen, options, run_checkpoint_export);
}

void add_checkpoint_import(CLI::App& checkpoint, Command& chosen) {
  CLI::App& command = *checkpoint.add_subcommand("import", "make a step folder of a model in another format");
  auto options = std::make_shared<ConvertOptions>();
  command.add_option("dir", options->from, "folder of a Hugging Face model")->required();
  command.add_option("out", options->to, "step folder to write, new or empty")->required();
  add_format_option(command, options->format);
  command.footer("Example: sluice checkpoint import Qwen3-30B-A3B-Base imported --format qwen3_moe");
  does(command, chosen, options, run_checkpoint_import);
}

void add_checkpoint(CLI::App& app, Command& chosen) {
  CLI::App& checkpoint = *app.add_subcommand("checkpoint", "look at, check, compare, rewrite and convert checkpoints")
                              ->require_subcommand(1);
  checkpoint.footer("Example: sluice checkpoint list runs/first");
  add_checkpoint_list(checkpoint, chosen);
  add_checkpoint_verify(checkpoint, chosen);
  add_checkpoint_diff(checkpoint, chosen);
  add_checkpoint_reshard(checkpoint, chosen);
  add_checkpoint_export(checkpoint, chosen);
  add_checkpoint_import(checkpoint, chosen);
}

void add_plan(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("plan", "what a run takes of each rank: memory, bytes sent, time of a step");
  auto options = std::make_shared<PlanOptions>();
  add_config_options(command, options->config);
  command.add_option("--world", options->world, "ranks")->required()->check(from<int>(1));
  command.add_option("--device", options->device, "cpu: this machine; h100, h200, b200")->capture_default_str();
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice plan --config configs/paper/moe_15a2b.textproto --world 64 --device h100");
  does(command, chosen, options, run_plan);
}

void add_spikes(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("spikes", "the spikes of a logged loss, by the detector of training");
  auto options = std::make_shared<SpikesOptions>();
  command.add_option("curve", options->curve, "a table with a first line step,lm_loss, or a run's metrics.jsonl")
      ->required();
  add_overrides(command, options->overrides);
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice spikes runs/first/metrics.jsonl --set stability.threshold=5");
  does(command, chosen, options, run_spikes);
}

/// Names of folders also where one begins like an option.
void add_paths(const std::vector<std::string>& paths, std::vector<std::string>& arguments) {
  for (const std::string& path : paths) arguments.push_back(path.front() == '-' ? "./" + path : path);
}

struct FitArguments {
  std::vector<std::string> runs, overrides;
  bool json = false;
};

void add_fit(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("fit", "a scaling law of finished runs, with intervals");
  auto options = std::make_shared<FitArguments>();
  command.add_option("runs", options->runs, "folders of runs, or of folders of runs")->required();
  command.add_option("--set", options->overrides, "a field of FitConfig, as parameters=TOTAL or budget=1e21")
      ->take_all()
      ->allow_extra_args(false);
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice fit runs/scaling --set budget=1e20");
  command.callback([&chosen, options] {
    chosen = [options] {
      std::vector<std::string> arguments = {"fit"};
      if (options->json) arguments.push_back("--json");
      for (const std::string& each : options->overrides) arguments.insert(arguments.end(), {"--set", each});
      add_paths(options->runs, arguments);
      return on_first_rank([&] { become_sibling("sluice-analysis", arguments); });
    };
  });
}

void add_report(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("report", "a page with the plots and tables of runs, or of a study");
  auto runs = std::make_shared<std::vector<std::string>>();
  auto out = std::make_shared<std::string>();
  command.add_option("runs", *runs, "folders of runs, or of folders of runs")->required();
  command.add_option("--out", *out, "HTML file to write")->required();
  command.footer("Example: sluice report runs/rates --out rates.html");
  command.callback([&chosen, runs, out] {
    chosen = [runs, out] {
      std::vector<std::string> arguments = {"report", "--out", *out};
      add_paths(*runs, arguments);
      return on_first_rank([&] { become_sibling("sluice-analysis", arguments); });
    };
  });
}

void add_bench(CLI::App& app, Command& chosen) {
  CLI::App& bench = *app.add_subcommand("bench", "speeds beside their limits")->require_subcommand(1);
  bench.footer("Example: sluice bench step --config configs/bench/small.textproto");
  CLI::App& command = *bench.add_subcommand("step", "optimizer steps on random tokens");
  auto options = std::make_shared<BenchStepOptions>();
  add_config_options(command, options->config);
  command.add_option("--steps", options->steps, "measured steps")->check(from<int64_t>(1))->capture_default_str();
  command
      .add_option("--warm-up", options->warm_up,
                  "steps before; with model.moe.selection_bias_rate they balance experts")
      ->check(from<int64_t>(0))
      ->capture_default_str();
  command.add_flag("--json", options->json, "one JSON object on standard output");
  command.footer("Example: sluice bench step --config configs/bench/small.textproto");
  does(command, chosen, options, run_bench_step);
}

/// Parses, runs, and turns what was thrown into the one line and the exit code.
int run(int argc, char** argv) {
  PhaseTimer startup;
  CLI::App app("Sluice trains mixture-of-experts language models with gated attention.");
  app.require_subcommand(1);
  app.footer("Example: mpirun -np 2 sluice train --config configs/quickstart.textproto --run runs/first");
  Command chosen;
  add_train(app, chosen, startup);
  add_sweep(app, chosen);
  add_eval(app, chosen);
  add_generate(app, chosen);
  add_verify(app, chosen);
  add_data(app, chosen);
  add_checkpoint(app, chosen);
  add_plan(app, chosen);
  add_spikes(app, chosen);
  add_fit(app, chosen);
  add_report(app, chosen);
  add_bench(app, chosen);
  try {
    check_command(app, argc, argv);
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    // The launcher ends a job with its first rank that fails: the one that speaks.
    if (!is_first_rank())
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    else
      std::fprintf(stderr, "error: %s; --help tells more\n", error.what());
    return exit_code(Fault::kUser);
  }
  try {
    const int code = chosen();
    ENSURE(std::fflush(stdout) == 0 && !std::ferror(stdout), "standard output: cannot write");
    return code;
  } catch (const Error& error) {
    fatal(exit_code(error.fault()), error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    fatal(exit_code(Fault::kUser), error.what());
  } catch (const std::exception& error) {
    fatal(exit_code(Fault::kInternal), error.what());
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  return sluice::run(argc, argv);
}
