#include "runtime/plan/plain_batch.h"

#include "kernels/core/philox.h"

namespace sluice {

Batch plain_batch(const TrainConfig& config, int64_t multiple, uint64_t seed) {
  const int64_t length = config.training().sequence_length();
  Batch batch;
  batch.start(config.training().micro_batch_size(), length);
  const Philox random(static_cast<uint64_t>(config.training().seed()), "bench");
  const double vocab = static_cast<double>(config.model().vocab_size());
  const auto token = [&](int64_t at) {
    return static_cast<int32_t>(random.uniform(static_cast<uint64_t>(at), seed) * vocab);
  };
  for (int64_t sequence = 0; sequence < batch.sequences; ++sequence) {
    for (int64_t i = 0; i < length; ++i) {
      const int64_t place = sequence * (length + 1) + i;
      batch.tokens.push_back(token(place));
      batch.targets.push_back(token(place + 1));
      batch.positions.push_back(static_cast<int32_t>(i));
    }
    batch.document_offsets.push_back(static_cast<int32_t>((sequence + 1) * length));
  }
  batch.target_count = batch.sequences * length;
  batch.pad_to_multiple(multiple);
  return batch;
}

}  // namespace sluice
