#include "kernels/embedding.h"

#include <gmock/gmock.h>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/embedding.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;
using reference::test_data;

constexpr int32_t kVocab = 33;

class Embedding : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }
  /// Every id several times once there are enough tokens.
  static std::vector<int32_t> ids(int32_t tokens) {
    std::vector<int32_t> result;
    for (int32_t t = 0; t < tokens; ++t) result.push_back(t * 7 % 10 == 3 ? 5 : t * 19 % kVocab);
    return result;
  }
};

TEST_P(Embedding, CopiesTheRowOfEveryToken) {
  for (int64_t hidden : {1, 7, 64}) {
    for (int32_t tokens : {0, 1, 7, 100}) {
      const TestTensor w = tensor({kVocab, hidden}, 1), t(ids(tokens)), y(dtype(), {tokens, hidden});
      embedding_forward(stream(), t, w, {0, kVocab}, y);
      EXPECT_EQ(y.values(), reference::embedding(ids(tokens), w.values(), static_cast<size_t>(hidden)));
    }
  }
}

TEST_P(Embedding, GradientAddsEveryUseOfARow) {
  for (int64_t hidden : {1, 7, 64}) {
    for (int32_t tokens : {0, 1, 7, 100}) {
      const TestTensor w = tensor({kVocab, hidden}, 1), t(ids(tokens)), dy = tensor({tokens, hidden}, 2);
      const TestTensor dw(dtype(), {kVocab, hidden}, std::vector<double>(static_cast<size_t>(kVocab * hidden)));
      embedding_backward(stream(), t, dy, {0, kVocab}, dw);
      const reference::Directions directions(kVocab * hidden);
      const auto slopes = directions.slopes(w.values(), [&](const std::vector<Complex>& moved) {
        return reference::weighted_sum(dy.values(),
                                       reference::embedding(ids(tokens), moved, static_cast<size_t>(hidden)));
      });
      EXPECT_LE(relative_l2(directions.project(dw.values()), slopes), tolerance(dtype()));
    }
  }
}

TEST_P(Embedding, GradientIsTheSameForAnyNumberOfThreads) {
  const TestTensor t(ids(100)), dy = tensor({100, 33}, 2);
  const TestTensor dw = tensor({kVocab, 33}, 3), single = tensor({kVocab, 33}, 3);
  ThreadPool one(1);
  Stream s{Device::kCpu, GetParam().isa, &one};
  embedding_backward(stream(), t, dy, {0, kVocab}, dw);
  embedding_backward(s, t, dy, {0, kVocab}, single);
  EXPECT_TRUE(dw.same_bits(single));
}

TEST_P(Embedding, PartsOfTheVocabularyAddUpToTheWhole) {
  constexpr int64_t kHidden = 7, kTokens = 100, kPart = kVocab / 3;
  const TestTensor w = tensor({kVocab, kHidden}, 1), t(ids(kTokens)), dy = tensor({kTokens, kHidden}, 2);
  const TestTensor whole(dtype(), {kTokens, kHidden}), dw = tensor({kVocab, kHidden}, 3);
  const TestTensor dw_of_parts = tensor({kVocab, kHidden}, 3);
  embedding_forward(stream(), t, w, {0, kVocab}, whole);
  embedding_backward(stream(), t, dy, {0, kVocab}, dw);
  std::vector<double> sum(static_cast<size_t>(kTokens * kHidden));
  for (int64_t first = 0; first < kVocab; first += kPart) {
    const TestTensor y(dtype(), {kTokens, kHidden});
    embedding_forward(stream(), t, Tensor(w).rows(first, kPart), {first, kVocab}, y);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += y.values()[i];
    embedding_backward(stream(), t, dy, {first, kVocab}, Tensor(dw_of_parts).rows(first, kPart));
  }
  EXPECT_EQ(sum, whole.values());
  EXPECT_TRUE(dw_of_parts.same_bits(dw));
}

TEST_P(Embedding, NamesATokenOutsideTheVocabulary) {
  const TestTensor w = tensor({kVocab, 4}, 1), y(dtype(), {2, 4});
  for (int32_t bad : {-1, kVocab}) {
    const TestTensor t(std::vector<int32_t>{0, bad});
    try {
      embedding_forward(stream(), t, w, {0, kVocab}, y);
      FAIL() << "accepted " << bad;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(concat("token id ", bad, " at position 1")));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Embedding, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
