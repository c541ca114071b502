#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "configs/train.pb.h"
#include "runtime/data/evaluation_data.h"
#include "runtime/data/tokenizer.h"
#include "runtime/data/training_data.h"

namespace sluice {

/// The data sets of a run, opened and checked against each other, the tokenizer and the model.
class RunData {
 public:
  /// Throws Error on a missing or damaged file, a tokenizer that does not match the data, or a vocabulary that the
  /// model does not hold; token ids of evaluation sets are checked here, those of training sets when read.
  explicit RunData(const TrainConfig& config);

  struct EvaluationSet {
    std::string name;
    EvaluationData data;
  };

  const TrainingData& training() const { return *training_; }
  const std::vector<EvaluationSet>& evaluation() const { return evaluation_; }
  /// What the training sets are; without a cursor.
  DataState state() const;
  /// The tokenizer's file, to be kept with checkpoints; empty when the configuration names none.
  const std::string& tokenizer_text() const { return tokenizer_text_; }

 private:
  std::string tokenizer_text_;
  std::unique_ptr<TrainingData> training_;
  std::vector<EvaluationSet> evaluation_;
};

/// Throws Error when the tokenizer, which `name` stands for in the message, has ids that the model lacks.
void check_vocabulary(const Tokenizer& tokenizer, const std::string& name, const ModelConfig& model);

/// Bytes of text that a data set stands for: from its meta file, or by decoding it. `tokenizer` is a checkpoint's, or
/// null. Throws Error when the meta file names another one or does not fit the set, when there is
/// neither, or no text.
int64_t text_bytes(const std::string& prefix, const IndexedDataset& set, const Tokenizer* tokenizer);

}  // namespace sluice
