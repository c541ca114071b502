#pragma once

#include <string>
#include <vector>

#include "launch/session.h"
#include "runtime/phase_timer.h"

namespace sluice {

/// --config and --set, as every command that takes a configuration has them.
struct ConfigOptions {
  std::string file;
  std::vector<std::string> overrides;
};

struct TrainOptions {
  ConfigOptions config;
  std::string run_dir;      ///< empty: runs/<config>-<date>
  int64_t replay_step = 0;  ///< run this one again and compare, instead; 0: none
};
/// `sluice train`. Every rank calls it; so with the others that take a Session.
void run_train(const TrainOptions& options, Session& session, PhaseTimer& startup);

struct SweepOptions {
  std::string study;    ///< file
  std::string run_dir;  ///< the study's folder
};
/// `sluice sweep`: all cells of a study that have not ended. Throws AgreedError of Fault::kPreempted after a signal, of
/// Fault::kUser when cells have failed.
void run_sweep(const SweepOptions& options, Session& session);

struct EvalOptions {
  std::vector<std::string> overrides;  ///< of the checkpoint's configuration
  std::string checkpoint;              ///< a step folder
  std::vector<std::string> prefixes;   ///< of the data sets
  int64_t length = 0;                  ///< tokens of a window; 0: as in training
  bool diagnostics = false;            ///< what attention, gates and the residual do (paper section 7)
  bool json = false;
};
/// `sluice eval`
void run_eval(const EvalOptions& options, Session& session);

struct GenerateCommandOptions {
  std::string checkpoint;
  std::string prompt;
  int64_t tokens = 128;
  double temperature = 0.8;
  uint64_t seed = 1;
};
/// `sluice generate`
void run_generate(const GenerateCommandOptions& options, Session& session);

struct VerifyOptions {
  ConfigOptions config;
  bool json = false;
};
/// `sluice verify`. Prints what was compared; throws Error when the layout computes something else than one rank.
void run_verify(const VerifyOptions& options, Session& session);

struct BenchStepOptions {
  ConfigOptions config;
  int64_t steps = 8;
  int64_t warm_up = 2;  ///< steps before those that are measured
  bool json = false;
};
/// `sluice bench step`: optimizer steps on random tokens.
void run_bench_step(const BenchStepOptions& options, Session& session);

}  // namespace sluice
