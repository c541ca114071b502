#include "runtime/data/prefetcher.h"

#include <chrono>
#include <numeric>

#include "runtime/data/indexed_writer.h"
#include "tests/temp_folder.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::string write_set(const TempFolder& folder) {
  IndexedWriter writer(folder / "set", 1000);
  std::vector<int32_t> ids(1000);
  std::iota(ids.begin(), ids.end(), 0);
  writer.add(ids);
  writer.finish();
  return folder / "set";
}

TEST(Prefetcher, RanksTogetherReadWhatOneReads) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder), 1}}, 1, 16, 1000);
  constexpr int64_t kRanks = 2, kEach = 3;
  Prefetcher zero(
      data,
      [](int64_t i) {
        return SampleRange{i * kRanks * kEach, kEach};
      },
      5, 2);
  Prefetcher one(
      data,
      [](int64_t i) {
        return SampleRange{i * kRanks * kEach + kEach, kEach};
      },
      5, 1);
  Batch both;
  for (int64_t i = 5; i < 40; ++i) {
    data.read(i * kRanks * kEach, kRanks * kEach, both);
    std::vector<int32_t> tokens = zero.next().tokens;
    const Batch& rest = one.next();
    tokens.insert(tokens.end(), rest.tokens.begin(), rest.tokens.end());
    EXPECT_EQ(tokens, both.tokens);
  }
}

TEST(Prefetcher, ABatchStaysUntilTheNextCall) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder), 1}}, 1, 16, 1000);
  Prefetcher prefetcher(
      data,
      [](int64_t i) {
        return SampleRange{i, 1};
      },
      0, 3);
  for (int i = 0; i < 20; ++i) {
    const Batch& batch = prefetcher.next();
    const std::vector<int32_t> copy = batch.tokens;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(batch.tokens, copy);
  }
}

TEST(Prefetcher, RethrowsInOrderWhatReadingThrew) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder), 1}}, 1, 16, 1000);
  const auto plan = [](int64_t i) {
    ENSURE(i < 2, "no batch ", i);
    return SampleRange{i, 1};
  };
  Prefetcher prefetcher(data, plan, 0, 4);
  prefetcher.next();
  prefetcher.next();
  EXPECT_THAT(error_of([&] { prefetcher.next(); }), HasSubstr("no batch 2"));
  EXPECT_THAT(error_of([&] { prefetcher.next(); }), HasSubstr("no batch 2"));
}

TEST(Prefetcher, StopsWhileItsQueueIsFull) {
  const TempFolder folder;
  const TrainingData data({{write_set(folder), 1}}, 1, 16, 1000);
  Prefetcher prefetcher(
      data,
      [](int64_t i) {
        return SampleRange{i, 1};
      },
      0, 2);
}

}  // namespace
}  // namespace sluice
