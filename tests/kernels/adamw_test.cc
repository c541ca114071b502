#include "kernels/adamw.h"

#include <cmath>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/adamw.h"
#include "tests/reference/complex_step.h"

namespace sluice {
namespace {

using reference::relative_l2;
using reference::test_data;

constexpr double kClip = 0.5;

AdamW settings(int step) {
  AdamW op;
  op.lr = 1e-2;
  op.weight_decay = 0.1;
  op.step = step;
  return op;
}

/// Weights and moments of n parameters.
struct State {
  State(DType dtype, int64_t n)
      : weight(dtype, {n}, test_data(n, 1)),
        m(dtype, {n}, std::vector<double>(static_cast<size_t>(n))),
        v(dtype, {n}, std::vector<double>(static_cast<size_t>(n))) {}
  void update(Stream& s, const AdamW& op, Tensor grad, double clip_factor, int32_t skip, Tensor sums = {}) {
    const TestTensor clip(DType::kF64, {1}, {clip_factor}), skip_flag(std::vector<int32_t>{skip});
    adamw(s, op, weight, grad, m, v, clip, skip_flag, sums);
  }

  TestTensor weight, m, v;
};

class AdamWUpdate : public KernelTest {
 protected:
  TestTensor gradient(int64_t n, int step) {
    return TestTensor(dtype(), {n}, test_data(n, static_cast<uint64_t>(10 + step)));
  }
};

TEST_P(AdamWUpdate, FiveStepsAndTheirSumsEqualTheEquations) {
  for (const auto& [n, epsilon_in_root] :
       {std::pair<int64_t, bool>{0, false}, {1, true}, {7, false}, {33, true}, {5001, false}, {20001, true}}) {
    State state(dtype(), n);
    std::vector<reference::AdamWParameter> want;
    for (double weight : state.weight.values()) want.push_back({weight, 0, 0, epsilon_in_root});
    for (int step = 1; step <= 5; ++step) {
      AdamW op = settings(step);
      op.epsilon_in_root = epsilon_in_root;
      // Large enough to matter.
      op.epsilon = 0.1;
      const TestTensor grad = gradient(n, step), clip(DType::kF64, {1}, {kClip}), sums(DType::kF64, {3});
      adamw_sums(stream(), op, grad, state.m, state.v, clip, sums);
      const TestTensor skipped(DType::kF64, {3}), updated(DType::kF64, {3});
      state.update(stream(), op, grad, kClip, 1, skipped);
      state.update(stream(), op, grad, kClip, 0, updated);
      EXPECT_TRUE(skipped.same_bits(sums));
      EXPECT_TRUE(updated.same_bits(sums));
      const std::vector<double> g = grad.values();
      std::vector<double> want_sums(3);
      for (size_t i = 0; i < want.size(); ++i) {
        want[i].update(kClip * g[i], 1e-2, 0.9, 0.95, 0.1, 0.1, step);
        want_sums[0] += g[i] * g[i];
        want_sums[1] += want[i].change * want[i].change;
        want_sums[2] += want[i].ratio * want[i].ratio;
      }
      for (size_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(sums.values()[i], want_sums[i], tolerance(dtype()) * want_sums[i]) << n << " step " << step;
      }
    }
    std::vector<double> weight, m, v;
    for (const auto& parameter : want) {
      weight.push_back(parameter.weight), m.push_back(parameter.m), v.push_back(parameter.v);
    }
    EXPECT_LE(relative_l2(state.weight.values(), weight), tolerance(dtype())) << n;
    EXPECT_LE(relative_l2(state.m.values(), m), tolerance(dtype())) << n;
    EXPECT_LE(relative_l2(state.v.values(), v), tolerance(dtype())) << n;
  }
}

TEST_P(AdamWUpdate, SkipChangesNothing) {
  State state(dtype(), 33), untouched(dtype(), 33);
  state.update(stream(), settings(1), gradient(33, 1), kClip, 1);
  EXPECT_TRUE(state.weight.same_bits(untouched.weight));
  EXPECT_TRUE(state.m.same_bits(untouched.m));
  EXPECT_TRUE(state.v.same_bits(untouched.v));
}

TEST_P(AdamWUpdate, ResultDoesNotDependOnTheThreads) {
  State state(dtype(), 20001), single(dtype(), 20001);
  ThreadPool one(1);
  Stream s{Device::kCpu, GetParam().isa, &one};
  state.update(stream(), settings(1), gradient(20001, 1), kClip, 0);
  single.update(s, settings(1), gradient(20001, 1), kClip, 0);
  EXPECT_TRUE(state.weight.same_bits(single.weight));
  const TestTensor clip(DType::kF64, {1}, {kClip}), of_all(DType::kF64, {3}), of_one(DType::kF64, {3});
  adamw_sums(stream(), settings(2), gradient(20001, 2), state.m, state.v, clip, of_all);
  adamw_sums(s, settings(2), gradient(20001, 2), state.m, state.v, clip, of_one);
  EXPECT_TRUE(of_all.same_bits(of_one));
}

TEST_P(AdamWUpdate, IsTheSameWhenItIsMeasured) {
  State plain(dtype(), 20001), measured(dtype(), 20001);
  const TestTensor sums(DType::kF64, {3});
  for (int step = 1; step <= 3; ++step) {
    plain.update(stream(), settings(step), gradient(20001, step), kClip, 0);
    measured.update(stream(), settings(step), gradient(20001, step), kClip, 0, sums);
  }
  EXPECT_TRUE(plain.weight.same_bits(measured.weight));
  EXPECT_TRUE(plain.m.same_bits(measured.m));
  EXPECT_TRUE(plain.v.same_bits(measured.v));
}

TEST_P(AdamWUpdate, RefusesMomentsOfAnotherLengthAndStepZero) {
  State state(dtype(), 7);
  EXPECT_THROW(state.update(stream(), settings(1), gradient(8, 1), 1, 0), Error);
  EXPECT_THROW(state.update(stream(), settings(0), gradient(7, 1), 1, 0), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, AdamWUpdate, testing::ValuesIn(kernel_cases()), kernel_case_name);

struct Clip {
  double factor, norm;
  int32_t skip;
};

Clip clip(Isa isa, double squared_norm, double max_norm) {
  ThreadPool pool(1);
  Stream s{Device::kCpu, isa, &pool};
  const TestTensor squared(DType::kF64, {1}, {squared_norm}), factor(DType::kF64, {1}), norm(DType::kF64, {1});
  const TestTensor skip(std::vector<int32_t>{7});
  clip_by_global_norm(s, squared, max_norm, factor, norm, skip);
  return {factor.values()[0], norm.values()[0], *Tensor(skip).as<int32_t>()};
}

TEST(ClipByGlobalNorm, ScalesOnlyNormsAboveTheLimit) {
  for (Isa isa : supported_isas()) {
    EXPECT_DOUBLE_EQ(clip(isa, 16, 1).factor, 1 / (4 + 1e-6));
    EXPECT_EQ(clip(isa, 16, 1).norm, 4);
    EXPECT_EQ(clip(isa, 0.25, 1).factor, 1);
    EXPECT_EQ(clip(isa, 16, 0).factor, 1) << "0 means no limit";
    EXPECT_EQ(clip(isa, 0, 1).factor, 1);
    EXPECT_EQ(clip(isa, 16, 1).skip, 0);
  }
}

TEST(SkipAbove, AsksToSkipAStepWhoseValueIsAboveTheLimitOrNoNumber) {
  const auto skip = [](Isa isa, double value, double scale, double limit, int32_t before) {
    ThreadPool pool(1);
    Stream s{Device::kCpu, isa, &pool};
    const TestTensor values(DType::kF64, {1}, {value}), skips(std::vector<int32_t>{before});
    skip_above(s, values, scale, limit, skips);
    return *Tensor(skips).as<int32_t>();
  };
  for (Isa isa : supported_isas()) {
    EXPECT_EQ(skip(isa, 6, 0.5, 3, 0), 0);
    EXPECT_EQ(skip(isa, 6, 0.5, 2.99, 0), 1);
    EXPECT_EQ(skip(isa, NAN, 0.5, 3, 0), 1);
    EXPECT_EQ(skip(isa, 1, 1, 3, 1), 1) << "what something else asked for stays";
  }
}

TEST(ClipByGlobalNorm, AsksToSkipAStepWhoseNormIsNotFinite) {
  for (Isa isa : supported_isas()) {
    EXPECT_EQ(clip(isa, INFINITY, 1).skip, 1);
    EXPECT_EQ(clip(isa, NAN, 1).skip, 1);
  }
}

}  // namespace
}  // namespace sluice
