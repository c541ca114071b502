#pragma once

#include <filesystem>
#include <fstream>
#include <limits>
#include <mutex>
#include <random>
#include <string>

#include <nlohmann/json.hpp>

#include "parallel/agree.h"
#include "parallel/thread_group.h"
#include "runtime/data/indexed_format.h"
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

/// Copies a data set of 16-bit token ids; a fiftieth of them, in the middle, are random ones of the vocabulary.
inline void corrupt_data(const std::string& from, const std::string& to, int64_t vocabulary, uint64_t seed) {
  for (const char* part : {".idx", ".bin", ".meta.json"}) {
    if (std::filesystem::exists(from + part)) {
      std::filesystem::copy_file(from + part, to + part, std::filesystem::copy_options::overwrite_existing);
    }
  }
  std::ifstream index(from + ".idx", std::ios::binary);
  index.seekg(17);
  ENSURE(index.get() == kIndexUint16, "token ids of ", from, " do not have 16 bits");
  std::fstream file(to + ".bin", std::ios::binary | std::ios::in | std::ios::out);
  const uintmax_t tokens = std::filesystem::file_size(to + ".bin") / 2;
  std::mt19937_64 random(seed);
  file.seekp(static_cast<std::streamoff>(tokens / 2 * 2));
  for (uintmax_t i = 0; i < tokens / 50; ++i) {
    const uint64_t id = random() % static_cast<uint64_t>(vocabulary);
    file.put(static_cast<char>(id & 255)).put(static_cast<char>(id >> 8));
  }
  ENSURE(file.flush(), to, ".bin cannot be written");
}

/// Trains on two ranks as threads, disturbed in step `at`; a token file is corrupted from the beginning.
inline Outcome disturbed_run(TrainConfig config, const std::string& run_dir, Disturbance kind, int64_t at) {
  Outcome outcome;
  if (kind == Disturbance::kTokenFile) {
    std::filesystem::create_directories(run_dir);
    std::string& prefix = *config.mutable_data()->mutable_train(0)->mutable_prefix();
    corrupt_data(prefix, run_dir + "/corrupted", config.model().vocab_size(),
                 static_cast<uint64_t>(config.training().seed()));
    prefix = run_dir + "/corrupted";
  }
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
