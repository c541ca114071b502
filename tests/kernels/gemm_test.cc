#include "kernels/gemm.h"

#include <thread>

#include "kernels/gemm_self_check.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/gemm.h"

namespace sluice {
namespace {

using reference::Product;
using reference::relative_l2;
using reference::test_data;

std::vector<Product> products() {
  std::vector<Product> all;
  const int64_t sizes[][3] = {{1, 1, 1},
                              {7, 1, 33},
                              {1, 7, 300},
                              {33, 33, 7},
                              {14, 32, 16},
                              {15, 33, 17},
                              {64, 16, 40},
                              {28, 100, 1},
                              {170, 65, 48},
                              {13, 390, 260},
                              {1, 33, 520},
                              // Several blocks of every size, and rows of a that share places in the cache.
                              {90, 270, 600},
                              {20, 40, 1024},
                              {1024, 20, 15}};
  for (const auto& [m, n, k] : sizes) {
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) all.push_back({a_transposed, b_transposed, m, n, k});
    }
  }
  return all;
}

std::string text(const Product& p) { return concat(p.m, "x", p.n, "x", p.k, " ", p.a_transposed, p.b_transposed); }

class Gemm : public KernelTest {
 protected:
  static Transpose flag(bool transposed) { return transposed ? Transpose::kYes : Transpose::kNo; }
  TestTensor a_of(const Product& p) {
    return TestTensor(dtype(), p.a_transposed ? Shape{p.k, p.m} : Shape{p.m, p.k}, test_data(p.m * p.k, 1));
  }
  TestTensor b_of(const Product& p) {
    return TestTensor(dtype(), p.b_transposed ? Shape{p.n, p.k} : Shape{p.k, p.n}, test_data(p.k * p.n, 2));
  }
};

TEST_P(Gemm, EveryFormEqualsTheScalarProduct) {
  for (const Product& p : products()) {
    const TestTensor a = a_of(p), b = b_of(p), c(dtype(), {p.m, p.n});
    gemm(stream(), flag(p.a_transposed), flag(p.b_transposed), a, b, c);
    EXPECT_LE(relative_l2(c.values(), reference::gemm(p, a.values(), b.values())), tolerance(dtype())) << text(p);
  }
}

TEST_P(Gemm, AccumulatingAddsToWhatIsThere) {
  for (const Product& p : products()) {
    const TestTensor a = a_of(p), b = b_of(p), c(dtype(), {p.m, p.n}, test_data(p.m * p.n, 3));
    std::vector<double> want = reference::gemm(p, a.values(), b.values());
    const std::vector<double> before = c.values();
    for (size_t i = 0; i < want.size(); ++i) want[i] += before[i];
    gemm(stream(), flag(p.a_transposed), flag(p.b_transposed), a, b, c, true);
    EXPECT_LE(relative_l2(c.values(), want), tolerance(dtype())) << text(p);
  }
}

TEST_P(Gemm, EmptySidesGiveNothingOrZero) {
  const TestTensor none(dtype(), {0, 5}), b(dtype(), {5, 3}, test_data(15, 1)), no_rows(dtype(), {0, 3});
  gemm(stream(), Transpose::kNo, Transpose::kNo, none, b, no_rows);
  const TestTensor a(dtype(), {4, 0}), no_depth(dtype(), {0, 3}), c(dtype(), {4, 3}, test_data(12, 1));
  gemm(stream(), Transpose::kNo, Transpose::kNo, a, no_depth, c);
  EXPECT_EQ(c.values(), std::vector<double>(12, 0));
}

TEST_P(Gemm, RepeatsToTheLastBitAlsoBesideOtherThreads) {
  const Product p{false, false, 65, 129, 300};
  const TestTensor a = a_of(p), b = b_of(p), c(dtype(), {p.m, p.n});
  gemm(stream(), Transpose::kNo, Transpose::kNo, a, b, c);
  std::vector<std::thread> ranks;
  std::vector<char> same(8, 0);
  for (size_t rank = 0; rank < same.size(); ++rank) {
    ranks.emplace_back([&, rank] {
      ThreadPool pool(GetParam().threads);
      Stream own{Device::kCpu, GetParam().isa, &pool};
      const TestTensor again(dtype(), {p.m, p.n});
      gemm(own, Transpose::kNo, Transpose::kNo, a, b, again);
      same[rank] = again.same_bits(c);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(same, std::vector<char>(8, 1));
}

TEST_P(Gemm, RefusesShapesThatDoNotFit) {
  const TestTensor a(dtype(), {3, 4}), b(dtype(), {5, 6}), c(dtype(), {3, 6});
  EXPECT_THROW(gemm(stream(), Transpose::kNo, Transpose::kNo, a, b, c), Error);
  const TestTensor other(dtype() == DType::kF32 ? DType::kF64 : DType::kF32, {4, 6});
  EXPECT_THROW(gemm(stream(), Transpose::kNo, Transpose::kNo, a, other, c), Error);
}

TEST_P(Gemm, SelfCheckPasses) { EXPECT_NO_THROW(gemm_self_check(stream())); }

// OpenBLAS promises no such thing.
TEST(OwnGemm, ARowDoesNotDependOnTheOthers) {
  if (!isa_supported(Isa::kAvx512)) GTEST_SKIP() << "needs AVX-512";
  ThreadPool pool(1);
  Stream stream{Device::kCpu, Isa::kAvx512, &pool};
  constexpr int64_t kRows = 40, kColumns = 70;
  // In one block of k; in two, where rows of a are packed; in three.
  for (const int64_t depth : {300, 1024, 1100}) {
    const TestTensor a(DType::kF32, {kRows, depth}, test_data(kRows * depth, 1)),
        b(DType::kF32, {kColumns, depth}, test_data(kColumns * depth, 2)), c(DType::kF32, {kRows, kColumns});
    gemm(stream, Transpose::kNo, Transpose::kYes, a, b, c);
    const std::vector<double> all = c.values();
    for (const int64_t row : {0, 13, 14, 39}) {
      const TestTensor one(DType::kF32, {1, kColumns});
      gemm(stream, Transpose::kNo, Transpose::kYes, Tensor(a).rows(row, 1), b, one);
      EXPECT_TRUE(std::equal(all.begin() + row * kColumns, all.begin() + (row + 1) * kColumns, one.values().begin()))
          << row << " of " << depth;
    }
  }
}

TEST(OwnGemm, MoreRowsThanItPacksAtATime) {
  if (!isa_supported(Isa::kAvx512)) GTEST_SKIP() << "needs AVX-512";
  ThreadPool pool(1);
  Stream stream{Device::kCpu, Isa::kAvx512, &pool};
  const Product p{true, false, 4000, 3, 5};
  const TestTensor a(DType::kF32, {p.k, p.m}, test_data(p.m * p.k, 1)),
      b(DType::kF32, {p.k, p.n}, test_data(p.k * p.n, 2)), c(DType::kF32, {p.m, p.n});
  gemm(stream, Transpose::kYes, Transpose::kNo, a, b, c);
  EXPECT_LE(relative_l2(c.values(), reference::gemm(p, a.values(), b.values())), tolerance(DType::kF32));
}

INSTANTIATE_TEST_SUITE_P(Cpu, Gemm, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
