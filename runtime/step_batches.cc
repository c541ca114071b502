#include "runtime/step_batches.h"

#include <algorithm>

#include "runtime/schedule.h"

namespace sluice {

int64_t StepBatches::first_sample(int64_t step) const { return samples_before(config_, step) + dropped_samples_; }

void StepBatches::start_after(int64_t step, int64_t dropped_samples) {
  dropped_samples_ = dropped_samples;
  const int64_t first = first_sample(step + 1) + mesh_.place().dp * config_.micro_batch_size();
  prefetcher_.emplace(
      data_,
      [this, first](int64_t micro_step) {
        return SampleRange{first + micro_step * micro_step_sequences(), config_.micro_batch_size()};
      },
      0, prefetch_);
}

LossScale StepBatches::loss_scale(int64_t step) const {
  const int64_t sequences = batch_size(config_, step);
  LossScale scale;
  // A step may meet only documents of one token.
  scale.step_targets = std::max<int64_t>(data_.count_targets(first_sample(step), sequences), 1);
  scale.micro_step_tokens = micro_step_sequences() * config_.sequence_length();
  scale.micro_steps = sequences / micro_step_sequences();
  return scale;
}

}  // namespace sluice
