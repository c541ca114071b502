#include "runtime/run_data.h"

#include <glog/logging.h>

#include "kernels/core/error.h"
#include "runtime/data/data_meta.h"
#include "runtime/files/xxh3.h"

namespace sluice {
namespace {

std::optional<DataMeta> read_meta_or_warn(const std::string& prefix) {
  std::optional<DataMeta> meta = read_meta(prefix);
  if (!meta) {
    LOG(WARNING) << prefix << ".meta.json is missing: its tokenizer is not known; token ids are still checked";
  }
  return meta;
}

/// Checks a set's meta file against the set, the tokenizer and the model.
void check_set(const IndexedDataset& set, const ModelConfig& model, const std::string& tokenizer_spec,
               const Tokenizer* tokenizer, std::optional<uint64_t>& common_xxh3) {
  const std::string& prefix = set.prefix();
  const std::optional<DataMeta> meta = read_meta_or_warn(prefix);
  if (!meta) return;
  check_counts(*meta, set);
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
    check_vocabulary(*tokenizer, data.tokenizer(), config.model());
    tokenizer_text_ = tokenizer->file_text();
  }
  std::optional<uint64_t> xxh3;
  const auto check = [&](const IndexedDataset& set) {
    check_set(set, config.model(), data.tokenizer(), tokenizer ? &*tokenizer : nullptr, xxh3);
  };
  std::vector<DataSource> sources;
  for (const TrainSet& set : data.train()) sources.push_back({set.prefix(), set.weight()});
  training_ = std::make_unique<TrainingData>(sources, static_cast<uint64_t>(training.seed()),
                                             training.sequence_length(), config.model().vocab_size());
  for (const IndexedDataset& set : training_->sets()) check(set);
  for (const EvalSet& set : data.eval()) {
    EvaluationData windows(set.prefix(), training.sequence_length(), config.model().vocab_size());
    check(windows.set());
    // They may be read for the first time when all is trained, which would be late for a bad id.
    windows.check_ids(windows.windows_read(data.eval_windows()));
    evaluation_.push_back({set.name(), std::move(windows)});
  }
}

DataState RunData::state() const {
  DataState state;
  for (const IndexedDataset& set : training_->sets()) {
    DataSetState& out = *state.add_sets();
    out.set_documents(set.documents());
    out.set_tokens(set.tokens());
    out.set_xxh3(hex16(set.fingerprint()));
  }
  return state;
}

void check_vocabulary(const Tokenizer& tokenizer, const std::string& name, const ModelConfig& model) {
  ENSURE(tokenizer.vocab_size() <= model.vocab_size(), name, ": the tokenizer has ", tokenizer.vocab_size(),
         " ids, more than model.vocab_size=", model.vocab_size());
}

int64_t text_bytes(const std::string& prefix, const IndexedDataset& set, const Tokenizer* tokenizer) {
  if (const std::optional<DataMeta> meta = read_meta_or_warn(prefix)) {
    if (tokenizer) check_tokenizer(prefix, *meta, "the checkpoint's tokenizer.json", tokenizer->xxh3());
    check_counts(*meta, set);
    return meta->bytes;
  }
  ENSURE(tokenizer, prefix,
         ".meta.json is missing, and the checkpoint holds no tokenizer to count the bytes of text with");
  const int64_t bytes = count_text_bytes(set, *tokenizer);
  ENSURE(bytes >= 1 || set.targets() == 0, prefix, ".bin: its ", set.tokens(), " tokens stand for no text");
  return bytes;
}

}  // namespace sluice
