#include "runtime/run_data.h"

#include <glog/logging.h>

#include "kernels/core/error.h"
#include "runtime/data/data_meta.h"

namespace sluice {
namespace {

std::optional<DataMeta> read_meta_or_warn(const std::string& prefix) {
  std::optional<DataMeta> meta = read_meta(prefix);
  if (!meta) {
    LOG(WARNING) << prefix << ".meta.json is missing: its tokenizer is not known; token ids are still checked";
  }
  return meta;
}

/// Checks a set's meta file against the tokenizer and the model.
void check_set(const std::string& prefix, const ModelConfig& model, const std::string& tokenizer_spec,
               const Tokenizer* tokenizer, std::optional<uint64_t>& common_xxh3) {
  const std::optional<DataMeta> meta = read_meta_or_warn(prefix);
  if (!meta) return;
  ENSURE(meta->vocab <= model.vocab_size(), prefix, ": its tokenizer has ", meta->vocab,
         " ids, more than model.vocab_size=", model.vocab_size());
  if (tokenizer) check_tokenizer(prefix, *meta, tokenizer_spec, tokenizer->xxh3());
  ENSURE(!common_xxh3 || *common_xxh3 == meta->tokenizer_xxh3, prefix,
         " was built with another tokenizer than the sets before it");
  common_xxh3 = meta->tokenizer_xxh3;
}

}  // namespace

RunData::RunData(const TrainConfig& config) {
  const DataConfig& data = config.data();
  const TrainingConfig& training = config.training();
  std::optional<Tokenizer> tokenizer;
  if (!data.tokenizer().empty()) {
    tokenizer = load_tokenizer(data.tokenizer());
    tokenizer_text_ = tokenizer->file_text();
  }
  std::optional<uint64_t> xxh3;
  const auto check = [&](const std::string& prefix) {
    check_set(prefix, config.model(), data.tokenizer(), tokenizer ? &*tokenizer : nullptr, xxh3);
  };
  std::vector<DataSource> sources;
  for (const TrainSet& set : data.train()) {
    check(set.prefix());
    sources.push_back({set.prefix(), set.weight()});
  }
  training_ = std::make_unique<TrainingData>(sources, static_cast<uint64_t>(training.seed()),
                                             training.sequence_length(), config.model().vocab_size());
  for (const EvalSet& set : data.eval()) {
    check(set.prefix());
    evaluation_.push_back(
        {set.name(), EvaluationData(set.prefix(), training.sequence_length(), config.model().vocab_size())});
  }
}

int64_t text_bytes(const std::string& prefix, const IndexedDataset& set, const Tokenizer* tokenizer) {
  if (const std::optional<DataMeta> meta = read_meta_or_warn(prefix)) {
    if (tokenizer) check_tokenizer(prefix, *meta, "the checkpoint's tokenizer.json", tokenizer->xxh3());
    return meta->bytes;
  }
  ENSURE(tokenizer, prefix,
         ".meta.json is missing, and the checkpoint holds no tokenizer to count the bytes of text with");
  return count_text_bytes(set, *tokenizer);
}

}  // namespace sluice
