#include "runtime/task_suite.h"

#include <algorithm>
#include <set>

#include "tests/runtime/training_fixture.h"
#include "tests/tasks/made_up_text.h"

namespace sluice {
namespace {

/// A model whose next token depends on the last one alone: what `spell` says, letter after letter.
class Speller {
 public:
  Speller(const TrainConfig& config, const std::string& spell)
      : config_(config),
        model_(config.model(), true, DType::kF64),
        transformer_(config.model(), {}, DType::kF64, 4000, model_.state) {
    const int64_t width = config.model().hidden_size();
    for (const ParameterRecord& r : model_.records) {
      double* weight = model_.weights.as<double>() + r.flat_begin;
      // Layers add nothing to the embeddings, each of which has a channel of its own.
      const bool norm = r.name.find("norm") != std::string::npos;
      std::fill(weight, weight + r.count, norm ? 1.0 : 0.0);
      if (r.name == "model.embed_tokens.weight") {
        for (int64_t id = 0; id < config.model().vocab_size(); ++id) weight[id * width + id] = 1;
      }
      if (r.name == "lm_head.weight") {
        for (size_t i = 0; i + 1 < spell.size(); ++i) weight[spell[i + 1] * width + spell[i]] = 1;
      }
    }
  }

  std::vector<TaskAccuracy> measure(ProcessGroup& world, const TaskMaker& maker, const Tokenizer& tokenizer) {
    return measure_tasks({stream_, transformer_, model_.weight_tensors, tokenizer}, world, maker, config_);
  }

 private:
  const TrainConfig config_;
  ThreadPool pool_{1};
  Stream stream_{Device::kCpu, best_isa(), &pool_};
  ModelState model_;
  Transformer transformer_;
};

TrainConfig byte_config(const std::vector<std::string>& more = {}) {
  std::vector<std::string> overrides = {
      "model.vocab_size=258",        "model.hidden_size=258",           "model.num_layers=1",
      "evaluation.tasks.samples=16", "evaluation.tasks.lengths[0]=600", "evaluation.tasks.tasks[0]=NEEDLE"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return tiny_config(overrides);
}

TEST(TaskSuite, AModelThatSaysAnAnswerHasItCounted) {
  const TempFolder folder;
  const Tokenizer tokenizer = load_tokenizer("bytes");
  const IndexedDataset text = made_up_text(folder, tokenizer);
  const TaskMaker maker(tokenizer, text, 1);
  // The model can spell a number whose digits are all different.
  std::string number;
  for (int64_t sample = 0; sample < 16 && number.empty(); ++sample) {
    const std::string answer = maker.make(TaskSuite::NEEDLE, 600, sample)->answers[0];
    if (std::set<char>(answer.begin(), answer.end()).size() == answer.size()) number = answer;
  }
  ASSERT_FALSE(number.empty());
  for (int ranks : {1, 3}) {
    run_ranks(ranks, [&](ProcessGroup& world) {
      // Questions end in "is".
      Speller right(byte_config(), "s " + number + "."), wrong(byte_config(), "s " + number + "x");
      const std::vector<TaskAccuracy> cells = right.measure(world, maker, tokenizer);
      ASSERT_EQ(cells.size(), 1u);
      EXPECT_EQ(cells[0].samples, 16) << ranks << " ranks";
      EXPECT_EQ(cells[0].answers, 16);
      EXPECT_EQ(cells[0].named, 1);
      EXPECT_EQ(wrong.measure(world, maker, tokenizer)[0].named, 0) << "part of a longer word";
    });
  }
}

TEST(TaskSuite, ATaskThatDoesNotFitInEverySampleHasNone) {
  const TempFolder folder;
  const Tokenizer tokenizer = load_tokenizer("bytes");
  const IndexedDataset text = made_up_text(folder, tokenizer);
  const TaskMaker maker(tokenizer, text, 1);
  // Names of a prompt are of two or three syllables.
  const auto fitting = [&](int64_t length) {
    int64_t fit = 0;
    for (int64_t sample = 0; sample < 16; ++sample) fit += maker.make(TaskSuite::NEEDLE, length, sample).has_value();
    return fit;
  };
  int64_t length = 100;
  while (fitting(length) == 0) ++length;
  ASSERT_LT(fitting(length), 16);
  for (int ranks : {1, 3}) {
    run_ranks(ranks, [&](ProcessGroup& world) {
      Speller speller(byte_config({"evaluation.tasks.lengths[1]=" + std::to_string(length)}), "s .");
      const std::vector<TaskAccuracy> cells = speller.measure(world, maker, tokenizer);
      ASSERT_EQ(cells.size(), 2u);
      EXPECT_EQ(cells[0].samples, 16);
      EXPECT_EQ(cells[1].samples, 0) << length << " tokens, " << ranks << " ranks";
      EXPECT_EQ(cells[1].answers, 0);
    });
  }
}

TEST(TaskSuite, ATaskThatDoesNotFitHasNoSamples) {
  const TempFolder folder;
  const Tokenizer tokenizer = load_tokenizer("bytes");
  const IndexedDataset text = made_up_text(folder, tokenizer);
  const auto group = std::move(make_thread_groups(1).front());
  Speller speller(byte_config({"evaluation.tasks.lengths[1]=100"}), "s .");
  const std::vector<TaskAccuracy> cells = speller.measure(*group, TaskMaker(tokenizer, text, 1), tokenizer);
  ASSERT_EQ(cells.size(), 2u);
  EXPECT_EQ(cells[0].samples, 16);
  EXPECT_EQ(cells[1].samples, 0);
}

TEST(TaskSuite, WhatIsLeftOutIsEverything) {
  TrainConfig config = tiny_config();
  config.mutable_evaluation()->mutable_tasks();
  config.mutable_training()->set_sequence_length(64);
  EXPECT_EQ(task_lengths(config), (std::vector<int64_t>{16, 32, 64, 128, 256}));
  EXPECT_EQ(suite_tasks(config.evaluation().tasks()).size(), 11u);
}

}  // namespace
}  // namespace sluice
