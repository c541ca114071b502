#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "configs/train.pb.h"
#include "runtime/data/indexed_dataset.h"
#include "runtime/data/tokenizer.h"

namespace sluice {

/// What a model is asked.
struct TaskSample {
  std::vector<int32_t> prompt;       ///< its continuation answers
  std::vector<std::string> answers;  ///< words
  int64_t new_tokens = 0;            ///< that the continuation may take, twice what the answers need
};

/// Makes long-context tasks of a tokenizer's tokens around the text of a data set. Safe to use from several threads.
class TaskMaker {
 public:
  /// Both must outlive it.
  TaskMaker(const Tokenizer& tokenizer, const IndexedDataset& text, uint64_t seed)
      : tokenizer_(tokenizer), text_(text), seed_(seed) {}

  /// Sample `index` of a task, prompt and continuation together `length` tokens or, where a list of words has no room
  /// for another, somewhat fewer; a function of (seed, task, length, index). Nothing when it does not fit.
  std::optional<TaskSample> make(TaskSuite::Task task, int64_t length, int64_t index) const;

 private:
  const Tokenizer& tokenizer_;
  const IndexedDataset& text_;
  uint64_t seed_;
};

/// How many of the answers a text has as whole words: what stands between characters other than ASCII letters, digits
/// and hyphens.
int64_t count_named(std::string_view text, const std::vector<std::string>& answers);

}  // namespace sluice
