#include "runtime/verify/made_up_samples.h"

#include <string>

#include "kernels/core/philox.h"

namespace sluice {

void fill_samples(const TrainConfig& config, int64_t first, int64_t count, Batch& batch) {
  const int64_t length = config.training().sequence_length();
  batch.start(count, length);
  for (int64_t sample = first; sample < first + count; ++sample) {
    const Philox random(static_cast<uint64_t>(config.training().seed()), "verify" + std::to_string(sample));
    const auto below = [&](int64_t limit, int64_t at) {
      return static_cast<int64_t>(random.uniform(static_cast<uint64_t>(at)) * static_cast<double>(limit));
    };
    const auto token = [&](int64_t at) {
      const double u = random.uniform(static_cast<uint64_t>(at));
      return static_cast<int32_t>(u * u * u * static_cast<double>(config.model().vocab_size()));
    };
    const int64_t cut = length > 1 ? 1 + below(length - 1, length + 1) : 1;
    const int32_t begin = batch.document_offsets.back();
    for (int64_t i = 0; i < length; ++i) {
      batch.tokens.push_back(token(i));
      batch.targets.push_back(i + 1 == cut ? -1 : token(i + 1));
      batch.positions.push_back(static_cast<int32_t>(i < cut ? i : i - cut));
    }
    batch.document_offsets.push_back(begin + static_cast<int32_t>(cut));
    if (cut < length) batch.document_offsets.push_back(begin + static_cast<int32_t>(length));
  }
  for (int32_t target : batch.targets) batch.target_count += target >= 0;
}

}  // namespace sluice
