#include "runtime/data/training_data.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "runtime/data/permutation.h"
#include "runtime/data/window.h"

namespace sluice {
namespace {

std::vector<double> weights_of(const std::vector<DataSource>& sources) {
  std::vector<double> weights;
  for (const DataSource& source : sources) weights.push_back(source.weight);
  return weights;
}

}  // namespace

TrainingData::TrainingData(const std::vector<DataSource>& sources, uint64_t seed, int64_t sequence_length,
                           int64_t vocab_size)
    : length_(sequence_length), vocab_size_(vocab_size), blend_(weights_of(sources), seed) {
  ENSURE(length_ >= 1, "training.sequence_length: expected 1 or more, got ", length_);
  for (size_t k = 0; k < sources.size(); ++k) {
    sets_.emplace_back(sources[k].prefix);
    const int64_t tokens = sets_.back().tokens();
    ENSURE(tokens > length_, sources[k].prefix, ".bin: holds ", tokens, " tokens, expected at least ", length_ + 1,
           " (training.sequence_length + 1)");
    ENSURE(sets_.back().targets() >= 1, sources[k].prefix,
           ".idx: no document has two tokens, so there is nothing to predict");
    // As many as fit behind every offset, so that all epochs are equally long.
    windows_.push_back(std::max<int64_t>(1, (tokens - length_) / length_));
    random_.emplace_back(seed, concat("data.train.", k));
  }
}

TrainingData::Window TrainingData::window(int64_t sample) const {
  const Blend::Place place = blend_.place(sample);
  const auto k = static_cast<size_t>(place.set);
  const int64_t epoch = place.index / windows_[k];
  const auto offsets = static_cast<uint64_t>(std::min(length_, sets_[k].tokens() - windows_[k] * length_));
  // Counters of the permutation have a high half of at least 1.
  const auto offset = static_cast<int64_t>(random_[k].words(static_cast<uint64_t>(epoch))[0] % offsets);
  const Permutation order(random_[k], static_cast<uint64_t>(epoch) + 1, windows_[k]);
  return {sets_[k], offset + order(place.index % windows_[k]) * length_};
}

void TrainingData::read(int64_t first, int64_t count, Batch& batch) const {
  batch.start(count, length_);
  for (int64_t i = 0; i < count; ++i) {
    const Window w = window(first + i);
    append_window(w.set, w.first_token, vocab_size_, batch);
  }
}

int64_t TrainingData::count_targets(int64_t first, int64_t count) const {
  int64_t targets = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Window w = window(first + i);
    targets += sluice::count_targets(w.set, w.first_token, length_);
  }
  return targets;
}

}  // namespace sluice
