#include <atomic>
#include <cmath>
#include <set>

#include <gmock/gmock.h>

#include "kernels/core/arena.h"
#include "kernels/core/isa.h"
#include "kernels/core/parallel_for.h"
#include "kernels/core/philox.h"
#include "tests/kernels/kernel_fixture.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// The message of the Error that body throws, empty when it throws none.
template <class Body>
std::string error_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Tensor, RowsAreAViewIntoTheOutermostDimension) {
  const TestTensor memory(DType::kF32, {4, 3});
  const Tensor t = memory, part = t.rows(1, 2);
  EXPECT_EQ(part.shape, (Shape{2, 3}));
  EXPECT_EQ(part.as<float>(), t.as<float>() + 3);
  EXPECT_EQ(t.rows(4, 0).count(), 0);
  EXPECT_THAT(error_of([&] { t.rows(3, 2); }), HasSubstr("rows [3, 5) of [4, 3]"));
  EXPECT_NE(error_of([&] { t.rows(-1, 2); }), "");
}

TEST(Tensor, ReshapeKeepsTheCount) {
  const TestTensor memory(DType::kF64, {4, 3});
  const Tensor t = memory;
  EXPECT_EQ(t.reshaped({2, 6}).data, t.data);
  EXPECT_THAT(error_of([&] { t.reshaped({5, 2}); }), HasSubstr("cannot view [4, 3] as [5, 2]"));
}

TEST(Tensor, NamesTheArgumentOfAnotherDtypeOrShape) {
  const TestTensor memory(DType::kF64, {4, 3});
  const Tensor t = memory;
  EXPECT_THAT(error_of([&] { t.as<float>(); }), HasSubstr("expected f32, got f64"));
  EXPECT_THAT(error_of([&] {
                expect("x", t, DType::kF64, {4, 2});
              }),
              HasSubstr("x: expected f64 [4, 2], got f64 [4, 3]"));
  EXPECT_EQ(error_of([&] { expect("x", t, DType::kF64, {4, 3}); }), "");
}

TEST(Tensor, MadeByDefaultIsEmpty) {
  EXPECT_FALSE(Tensor{});
  EXPECT_TRUE(Tensor(TestTensor(DType::kF32, {0, 4})));
}

TEST(Arena, GivesAlignedMemoryAndTakesItBackInReverseOrder) {
  Arena arena("scratch", MemorySource::kHugePages, 1 << 20);
  const Tensor a = arena.alloc("a", DType::kF32, {3});
  const int64_t mark = arena.mark();
  const Tensor b = arena.alloc("b", DType::kF64, {5, 5});
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data) % Arena::kAlignmentBytes, 0u);
  EXPECT_EQ(static_cast<char*>(b.data) - static_cast<char*>(a.data), Arena::kAlignmentBytes);
  arena.release(mark);
  EXPECT_EQ(arena.alloc("c", DType::kF32, {1}).data, b.data);
}

TEST(Arena, KeepsTheHighWaterMarkAndItsName) {
  for (const MemorySource source : {MemorySource::kPages, MemorySource::kNone}) {
    Arena arena("scratch", source, 1 << 20);
    {
      ArenaScope scope(arena);
      arena.alloc("small", DType::kF32, {16});
      arena.alloc("large", DType::kF32, {25});
    }
    arena.alloc("after", DType::kF32, {1});
    EXPECT_EQ(arena.used_bytes(), 64);
    EXPECT_EQ(arena.high_water_bytes(), 192);
    EXPECT_EQ(arena.high_water_name(), "large");
  }
}

TEST(Arena, WithoutMemoryCountsWhatItHasNotAndKnowsItsPeak) {
  Arena arena("scratch", MemorySource::kNone, 1 << 20);
  const Tensor huge = arena.alloc("huge", DType::kBF16, {int64_t{1} << 40});
  const int64_t mark = arena.mark();
  const Tensor counts = arena.alloc("counts", DType::kI64, {9});
  EXPECT_EQ(huge.device, Device::kNone);
  EXPECT_EQ(counts.device, Device::kCpu);
  for (int64_t i = 0; i < 9; ++i) counts.as<int64_t>()[i] += i;
  EXPECT_EQ(counts.as<int64_t>()[8], 8);
  EXPECT_NE(arena.alloc("other", DType::kF32, {1}).data, huge.data) << "tensors are told apart by where they are";
  arena.release(mark);
  arena.alloc("less", DType::kF32, {1});
  ASSERT_EQ(arena.peak().size(), 3u);
  EXPECT_EQ(arena.peak()[1].name, "counts");
  EXPECT_EQ(arena.peak()[1].bytes, 128);
  EXPECT_EQ(arena.peak()[2].name, "other");
  EXPECT_EQ(arena.high_water_bytes(), (int64_t{2} << 40) + 192);
  arena.alloc("most", DType::kF32, {100});
  EXPECT_EQ(arena.peak().back().name, "most");
  EXPECT_DEATH(*static_cast<volatile char*>(huge.data) = 1, "");
}

TEST(Arena, NamesTheAllocationThatDoesNotFit) {
  Arena arena("scratch", MemorySource::kHugePages, 1);
  EXPECT_THAT(error_of([&] { arena.alloc("logits", DType::kF32, {1 << 20}); }),
              testing::AllOf(HasSubstr("scratch"), HasSubstr("logits needs 4194304 bytes")));
  EXPECT_NE(error_of([&] { arena.release(1); }), "");
}

TEST(Arena, HasLessWhereTheSystemReservesLess) {
  constexpr int64_t kMoreThanAnAddressSpace = int64_t{1} << 60;
  Arena arena("scratch", MemorySource::kHugePages, kMoreThanAnAddressSpace);
  EXPECT_LT(arena.capacity_bytes(), kMoreThanAnAddressSpace);
  *arena.alloc("a", DType::kF64, {1}).as<double>() = 1;
  EXPECT_THAT(error_of([&] { arena.alloc("logits", DType::kU8, {kMoreThanAnAddressSpace}); }),
              testing::AllOf(HasSubstr("arena scratch: logits needs"), HasSubstr("are left")));
}

TEST(ThreadPool, RunsAJobOnceOnEveryWorker) {
  ThreadPool pool(3);
  std::atomic<int> runs[3] = {};
  for (int repeat = 0; repeat < 200; ++repeat) {
    pool.run([](void* data, int worker) { ++static_cast<std::atomic<int>*>(data)[worker]; }, runs);
  }
  for (const auto& count : runs) EXPECT_EQ(count, 200);
}

TEST(ThreadPool, StartsAgainAfterItsThreadsFellAsleep) {
  ThreadPool pool(3);
  std::atomic<int> runs = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    pool.run([](void* data, int) { ++*static_cast<std::atomic<int>*>(data); }, &runs);
  }
  EXPECT_EQ(runs, 9);
}

TEST(ThreadPool, RethrowsAnExceptionOfAnyWorkerAndGoesOn) {
  ThreadPool pool(3);
  Stream s{Device::kCpu, Isa::kPortable, &pool};
  for (int bad : {0, 1, 2}) {
    const auto fail = [&](int64_t, int64_t, int worker) { ENSURE(worker != bad, "worker ", worker); };
    EXPECT_EQ(error_of([&] { parallel_for(s, 30, 1, fail); }), concat("worker ", bad));
  }
  EXPECT_EQ(error_of([&] { parallel_for(s, 30, 1, [](int64_t, int64_t, int) {}); }), "");
}

TEST(ThreadPool, GivesEachWorkerItsOwnAlignedWorkspace) {
  ThreadPool pool(3);
  std::set<void*> blocks;
  for (int worker = 0; worker < 3; ++worker) {
    blocks.insert(pool.workspace(worker));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pool.workspace(worker)) % 4096, 0u);
  }
  EXPECT_EQ(blocks.size(), 3u);
}

TEST(ParallelFor, CoversTheRangeOnceWithBeginsOnTheGrain) {
  for (int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    const Stream s{Device::kCpu, Isa::kPortable, &pool};
    for (int64_t n : {0, 1, 7, 33, 100}) {
      for (int64_t grain : {1, 4, 16, 1000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
        std::atomic<int> off_grain = 0;
        parallel_for(s, n, grain, [&](int64_t begin, int64_t end, int) {
          if (begin % grain != 0) ++off_grain;
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const auto& count : visits) ASSERT_EQ(count, 1);
        EXPECT_EQ(off_grain, 0);
      }
    }
  }
}

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  EXPECT_THAT(Philox(0).words(0), ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(Philox(~uint64_t{0}).words(~uint64_t{0}, ~uint64_t{0}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(Philox(0x299f31d0a4093822).words(0x85a308d3243f6a88, 0x0370734413198a2e),
              ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(Philox, StreamsOfOtherSeedsAndNamesDiffer) {
  const auto first = Philox(1, "model.norm.weight").words(0);
  EXPECT_EQ(Philox(1, "model.norm.weight").words(0), first);
  EXPECT_NE(Philox(2, "model.norm.weight").words(0), first);
  EXPECT_NE(Philox(1, "model.norm.bias").words(0), first);
}

TEST(Philox, UniformsAndNormalsHaveTheirMoments) {
  const Philox random(7, "moments");
  constexpr int kBlocks = 20000;
  double uniform = 0, uniform_squares = 0, normal = 0, normal_squares = 0;
  for (int i = 0; i < kBlocks; ++i) {
    const double u = random.uniform(static_cast<uint64_t>(i), 1);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    uniform += u, uniform_squares += u * u;
    for (double z : random.normals(static_cast<uint64_t>(i))) normal += z, normal_squares += z * z;
  }
  EXPECT_NEAR(uniform / kBlocks, 0.5, 0.01);
  EXPECT_NEAR(uniform_squares / kBlocks, 1.0 / 3, 0.01);
  EXPECT_NEAR(normal / (4 * kBlocks), 0, 0.02);
  EXPECT_NEAR(normal_squares / (4 * kBlocks), 1, 0.02);
}

TEST(Isa, IsParsedByNameAndRefusedByField) {
  EXPECT_EQ(parse_isa("portable"), Isa::kPortable);
  EXPECT_EQ(parse_isa("auto"), best_isa());
  for (Isa isa : supported_isas()) EXPECT_EQ(parse_isa(isa_name(isa)), isa);
  EXPECT_THAT(error_of([] { parse_isa("sse9"); }), HasSubstr("cpu.isa: unknown instruction set \"sse9\""));
}

TEST(Error, KeepsPlaceAndFault) {
  try {
    INVARIANT(1 > 2, "one is ", 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "one is 1");
    EXPECT_THAT(error.file(), HasSubstr("core_test.cc"));
    EXPECT_GT(error.line(), 0);
    EXPECT_EQ(error.fault(), Fault::kInternal);
  }
}

}  // namespace
}  // namespace sluice
