#pragma once

#include <fstream>
#include <limits>
#include <mutex>
#include <string>

#include <nlohmann/json.hpp>

#include "parallel/agree.h"
#include "parallel/thread_group.h"
#include "runtime/train.h"
#include "tests/runtime/disturbance.h"

namespace sluice {

/// What became of a run.
struct Outcome {
  bool diverged = false;
  double loss = std::numeric_limits<double>::quiet_NaN();  ///< on held-out data, at the end; NaN if there is none
  int64_t lost_steps = 0;  ///< taken again after going back, and updates that were not made
  int64_t rewinds = 0, skips = 0;
};

/// Trains on two ranks as threads, disturbed in step `at`.
inline Outcome disturbed_run(const TrainConfig& config, const std::string& run_dir, Disturbance kind, int64_t at) {
  Outcome outcome;
  std::mutex mutex;
  run_ranks(2, [&](ProcessGroup& world) {
    ThreadPool pool(1);
    Stream stream{Device::kCpu, best_isa(), &pool};
    PhaseTimer startup;
    Disturber disturber(kind, at, static_cast<uint64_t>(config.training().seed()), world);
    try {
      train(config, run_dir, world, stream, startup, &disturber);
    } catch (const AgreedError& error) {
      if (error.fault() != Fault::kDiverged) throw;
      const std::lock_guard lock(mutex);
      outcome.diverged = true;
    }
  });
  std::ifstream metrics(run_dir + "/metrics.jsonl"), audit(run_dir + "/audit.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    const nlohmann::json step = nlohmann::json::parse(line);
    for (const auto& [name, value] : step.items()) {
      if (name.starts_with("eval_loss.") && value.is_number()) outcome.loss = value;
    }
  }
  for (std::string line; std::getline(audit, line);) {
    const nlohmann::json decision = nlohmann::json::parse(line);
    const std::string reason = decision["reason"], words = "goes back to step ";
    if (decision["event"] == "skip") ++outcome.skips, ++outcome.lost_steps;
    if (decision["event"] != "rewind") continue;
    ++outcome.rewinds;
    outcome.lost_steps +=
        decision["step"].get<int64_t>() - std::stoll(reason.substr(reason.find(words) + words.size()));
  }
  return outcome;
}

}  // namespace sluice
