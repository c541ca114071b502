#pragma once

#include <cstdint>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "runtime/data/indexed_writer.h"
#include "tests/runtime/disturbed_run.h"
#include "tests/runtime/training_fixture.h"
#include "tests/temp_folder.h"

namespace sluice {

inline constexpr int64_t kSteps = 80, kDisturbed = 65;

/// Runs of a tiny model on documents whose next token mostly follows from the one before.
class TrainTest : public testing::Test {
 protected:
  TrainTest() {
    std::mt19937 random(1);
    std::uniform_int_distribution<int32_t> token(0, 35);
    IndexedWriter writer(folder_ / "set", 36);
    for (int document = 0; document < 100; ++document) {
      std::vector<int32_t> ids{token(random)};
      while (ids.size() < 120) ids.push_back(random() % 8 == 0 ? token(random) : (5 * ids.back() + 3) % 36);
      writer.add(ids);
    }
    writer.finish();
  }

  TrainConfig config(const std::vector<std::string>& overrides) const {
    std::vector<std::string> all = {"data.train[0].prefix=" + (folder_ / "set"),
                                    "data.eval[0].name=e",
                                    "data.eval[0].prefix=" + (folder_ / "set"),
                                    "data.eval_windows=100",
                                    "model.vocab_size=36",
                                    "model.init_std=0.1",
                                    "precision=F32",
                                    "training.micro_batch_size=2",
                                    "training.global_batch_size=8",
                                    concat("training.steps=", kSteps),
                                    "optimizer.schedule=CONSTANT",
                                    "watchdog.deadline_s=0",
                                    "logging.every=1",
                                    "checkpoint.every=10",
                                    "checkpoint.keep=1",
                                    "stability.lm_loss.action=REWIND",
                                    "stability.grad_norm.action=SKIP",
                                    "stability.threshold=8"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return tiny_config(all, 2);
  }
  Outcome run(const std::string& name, Disturbance kind, const std::vector<std::string>& overrides = {}) const {
    return disturbed_run(config(overrides), folder_ / name, kind, kDisturbed);
  }
  std::vector<int64_t> logged_steps(const std::string& file) const {
    std::vector<int64_t> steps;
    std::ifstream in(folder_ / file);
    for (std::string line; std::getline(in, line);) steps.push_back(nlohmann::json::parse(line)["step"]);
    return steps;
  }
  static std::vector<int64_t> range(int64_t first, int64_t last) {
    std::vector<int64_t> steps;
    for (int64_t step = first; step <= last; ++step) steps.push_back(step);
    return steps;
  }

  const TempFolder folder_;
};

}  // namespace sluice
