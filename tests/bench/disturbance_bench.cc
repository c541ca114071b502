// What becomes of runs that are disturbed, by policy:
//   disturbance_bench CONFIG SEEDS AT NAME [path=value...]
// CONFIG as `sluice train` takes it, for two ranks in f32 with at least two micro-steps a step; each disturbance whose
// name begins with NAME ("": all) comes once, in step AT, but that the
// first training set is corrupted from the beginning. Prints held-out losses less that of the undisturbed run of
// the same seed.
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

#include <glog/logging.h>

#include "runtime/config.h"
#include "runtime/validate.h"
#include "tests/runtime/disturbed_run.h"

namespace sluice {
namespace {

struct Policy {
  const char *name, *lm_loss, *grad_norm, *indicators;  // the last of max_activation and update_rms
};
constexpr Policy kPolicies[] = {
    {"nothing", "LOG", "LOG", "LOG"}, {"skip", "SKIP", "SKIP", "LOG"}, {"rewind", "REWIND", "SKIP", "REWIND"}};

Outcome run(const std::string& file, std::vector<std::string> overrides, const Policy& policy, Disturbance kind,
            int seed, int64_t at) {
  overrides.push_back("training.seed=" + std::to_string(seed));
  overrides.push_back(concat("stability.lm_loss.action=", policy.lm_loss));
  overrides.push_back(concat("stability.grad_norm.action=", policy.grad_norm));
  for (const char* indicator : {"max_activation", "update_rms"}) {
    // What a fault of memory does is hundreds of deviations away.
    overrides.push_back(concat("stability.indicators.", indicator, "={threshold: 50 action: ", policy.indicators, "}"));
  }
  TrainConfig config = load_config(file, overrides);
  validate_training(config, 2);
  const std::string run_dir = (std::filesystem::temp_directory_path() / concat("disturbed_run_", ::getpid())).string();
  std::filesystem::remove_all(run_dir);
  const Outcome outcome = disturbed_run(config, run_dir, kind, at);
  std::filesystem::remove_all(run_dir);
  return outcome;
}

std::string in_words(const Outcome& outcome, double clean) {
  char text[96];
  if (outcome.diverged) return concat("diverged, lost ", outcome.lost_steps);
  std::snprintf(text, sizeof text, "%+.4f, lost %lld", outcome.loss - clean,
                static_cast<long long>(outcome.lost_steps));
  return text;
}

void judge(const std::string& file, int seeds, int64_t at, const std::string& only,
           const std::vector<std::string>& overrides) {
  std::map<int, double> clean;
  std::printf("undisturbed:");
  for (int seed = 1; seed <= seeds; ++seed) {
    for (const Policy& policy : kPolicies) {
      const Outcome outcome = run(file, overrides, policy, Disturbance::kNone, seed, at);
      if (policy.name == std::string("nothing")) clean[seed] = outcome.loss;
      std::printf(" %s %.4f (lost %lld)", policy.name, outcome.loss, static_cast<long long>(outcome.lost_steps));
    }
    std::printf(seed < seeds ? ";" : "\n");
  }
  std::printf("| disturbance | policy |");
  for (int seed = 1; seed <= seeds; ++seed) std::printf(" seed %d |", seed);
  std::printf("\n");
  for (Disturbance kind : kDisturbances) {
    if (!std::string(name_of(kind)).starts_with(only)) continue;
    for (const Policy& policy : kPolicies) {
      std::printf("| %s | %s |", name_of(kind), policy.name);
      for (int seed = 1; seed <= seeds; ++seed) {
        std::printf(" %s |", in_words(run(file, overrides, policy, kind, seed, at), clean[seed]).c_str());
        std::fflush(stdout);
      }
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  if (argc < 5) return std::fprintf(stderr, "disturbance_bench CONFIG SEEDS AT NAME [path=value...]\n"), 1;
  google::InitGoogleLogging(argv[0]);
  try {
    sluice::judge(argv[1], std::stoi(argv[2]), std::stoll(argv[3]), argv[4], {argv + 5, argv + argc});
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "error: %s\n", error.what()), 1;
  }
}
