#include "runtime/data/training_data.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "runtime/data/blend.h"
#include "runtime/data/indexed_writer.h"
#include "runtime/data/permutation.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr int64_t kVocab = 1000;

// Documents of these lengths over the ids base, base + 1, ...
std::string write_set(const TempFolder& folder, const std::string& name, const std::vector<int>& lengths,
                      int base = 0) {
  IndexedWriter writer(folder / name, kVocab);
  for (const int length : lengths) {
    std::vector<int32_t> ids(static_cast<size_t>(length));
    std::iota(ids.begin(), ids.end(), base);
    base += length;
    writer.add(ids);
  }
  writer.finish();
  return folder / name;
}

bool equal(const Batch& a, const Batch& b) {
  return a.tokens == b.tokens && a.targets == b.targets && a.positions == b.positions &&
         a.document_offsets == b.document_offsets && a.target_count == b.target_count;
}

TEST(Permutation, VisitsEveryElementOnce) {
  const Philox random(7);
  for (const int64_t size : {1, 2, 3, 5, 64, 65, 1000}) {
    const Permutation order(random, 3, size);
    std::set<int64_t> seen;
    for (int64_t i = 0; i < size; ++i) seen.insert(order(i));
    EXPECT_EQ(static_cast<int64_t>(seen.size()), size);
    EXPECT_EQ(*seen.rbegin(), size - 1);
  }
}

TEST(Permutation, StreamsDiffer) {
  const Philox random(7);
  int fixed = 0;
  for (int64_t i = 0; i < 1000; ++i) fixed += Permutation(random, 1, 1000)(i) == Permutation(random, 2, 1000)(i);
  EXPECT_LT(fixed, 20);
}

TEST(Blend, GivesEverySetItsShareAndCountsItsSamples) {
  const Blend blend({3, 1, 0.5}, 11);
  std::vector<int64_t> seen(3, 0);
  for (int64_t i = 0; i < 3 * Blend::kPeriod; ++i) {
    const Blend::Place place = blend.place(i);
    EXPECT_EQ(place.index, seen[static_cast<size_t>(place.set)]++);
  }
  const std::vector<double> share = {3 / 4.5, 1 / 4.5, 0.5 / 4.5};
  for (size_t k = 0; k < 3; ++k) {
    EXPECT_NEAR(static_cast<double>(seen[k]), share[k] * 3 * Blend::kPeriod, 3);
  }
}

TEST(Blend, RefusesWeightsThatCannotBeServed) {
  EXPECT_THAT(error_of([] { Blend({}, 1); }), HasSubstr("at least one"));
  EXPECT_THAT(error_of([] { Blend({1, 0}, 1); }), HasSubstr("data.train[1].weight: expected a positive number"));
  EXPECT_THAT(error_of([] { Blend({1, -1}, 1); }), HasSubstr("data.train[1].weight"));
  EXPECT_THAT(error_of([] { Blend({std::numeric_limits<double>::quiet_NaN()}, 1); }),
              HasSubstr("data.train[0].weight"));
  EXPECT_THAT(error_of([] { Blend({1, 1e-9}, 1); }), HasSubstr("below 1/4096"));
}

TEST(TrainingData, TargetsAreTheNextTokensOfTheSameDocument) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder, "a", {5, 3, 1, 40, 11}), 1}}, 1, 8, kVocab);
  const std::set<int32_t> document_starts = {0, 5, 8, 9, 49};
  Batch batch;
  data.read(0, 50, batch);
  ASSERT_EQ(batch.tokens.size(), 400u);
  int64_t targets = 0;
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const int32_t next = batch.tokens[i] + 1;
    EXPECT_EQ(batch.targets[i], document_starts.contains(next) ? -1 : next);
    const bool starts = i % 8 == 0 || document_starts.contains(batch.tokens[i]);
    EXPECT_EQ(batch.positions[i], starts ? 0 : batch.positions[i - 1] + 1);
    EXPECT_EQ(std::count(batch.document_offsets.begin(), batch.document_offsets.end(), static_cast<int32_t>(i)),
              starts);
    targets += batch.targets[i] >= 0;
  }
  EXPECT_EQ(batch.document_offsets.back(), 400);
  EXPECT_TRUE(std::is_sorted(batch.document_offsets.begin(), batch.document_offsets.end()));
  EXPECT_EQ(batch.target_count, targets);
  EXPECT_EQ(data.count_targets(0, 50), targets);
}

TEST(TrainingData, AnEpochShowsEveryWindowOnce) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder, "a", {100}), 1}}, 5, 7, kVocab);
  ASSERT_EQ(data.windows(0), 13);
  Batch batch;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    data.read(epoch * 13, 13, batch);
    const std::set<int32_t> tokens(batch.tokens.begin(), batch.tokens.end());
    EXPECT_EQ(tokens.size(), 13u * 7);
    EXPECT_EQ(*tokens.rbegin() - *tokens.begin(), 13 * 7 - 1);
  }
}

TEST(TrainingData, IsAPureFunctionOfSeedAndSample) {
  const TempFolder folder;
  const std::string a = write_set(folder, "a", {200, 57}), b = write_set(folder, "b", {90}, 500);
  const TrainingData first({{a, 2}, {b, 1}}, 9, 16, kVocab), second({{a, 2}, {b, 1}}, 9, 16, kVocab);
  const TrainingData other_seed({{a, 2}, {b, 1}}, 10, 16, kVocab);
  Batch all, part, other;
  first.read(0, 64, all);
  other_seed.read(0, 64, other);
  EXPECT_NE(all.tokens, other.tokens);
  for (const int64_t sample : {63, 0, 17}) {
    second.read(sample, 1, part);
    const auto begin = all.tokens.begin() + sample * 16;
    EXPECT_TRUE(std::equal(begin, begin + 16, part.tokens.begin()));
  }
  Batch again;
  first.read(0, 64, again);
  EXPECT_TRUE(equal(all, again));
}

TEST(TrainingData, DrawsFromSetsByWeight) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder, "a", {100}), 3}, {write_set(folder, "b", {100}, 500), 1}}, 2, 10, kVocab);
  Batch batch;
  data.read(0, Blend::kPeriod, batch);
  const auto from_b = std::count_if(batch.tokens.begin(), batch.tokens.end(), [](int32_t id) { return id >= 500; });
  EXPECT_EQ(from_b, Blend::kPeriod / 4 * 10);
}

TEST(TrainingData, ASetOfOneWindowIsEnough) {
  const TempFolder folder;
  const std::string prefix = write_set(folder, "a", {9});
  const TrainingData data({{prefix, 1}}, 1, 8, kVocab);
  Batch batch;
  data.read(0, 3, batch);
  EXPECT_EQ(batch.target_count, 24);
  EXPECT_THAT(error_of([&] {
                TrainingData({{prefix, 1}}, 1, 9, kVocab);
              }),
              HasSubstr("a.bin: holds 9 tokens, expected at least 10 (training.sequence_length + 1)"));
}

TEST(TrainingData, AllocatesNothingWhenABatchIsUsedAgain) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder, "a", {1, 1, 1, 1, 1, 1, 1, 1, 1, 100}), 1}}, 1, 8, kVocab);
  Batch batch;
  data.read(0, 4, batch);
  const int32_t* const before[] = {batch.tokens.data(), batch.targets.data(), batch.positions.data(),
                                   batch.document_offsets.data()};
  for (int64_t i = 1; i < 100; ++i) data.read(4 * i, 4, batch);
  EXPECT_EQ(batch.tokens.data(), before[0]);
  EXPECT_EQ(batch.targets.data(), before[1]);
  EXPECT_EQ(batch.positions.data(), before[2]);
  EXPECT_EQ(batch.document_offsets.data(), before[3]);
}

TEST(TrainingData, AnIdBeyondTheVocabularyIsFoundWhenRead) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder, "a", {20}), 1}}, 1, 8, 10);
  Batch batch;
  EXPECT_THAT(error_of([&] { data.read(0, 4, batch); }), HasSubstr("is not in the vocabulary of 10"));
}

}  // namespace
}  // namespace sluice
