#include "kernels/grouped_gemm.h"

#include <limits>

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/gemm.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;
using reference::test_data;

struct Sizes {
  std::vector<int64_t> offsets;
  int64_t in, out;

  int64_t rows() const { return offsets.back(); }
  int64_t experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

const std::vector<Sizes> kSizes = {{{0, 0, 7, 7, 20}, 33, 17},  // empty experts
                                   {{0, 0, 33, 33}, 16, 40},    // all rows on one
                                   {{0, 1, 2, 3}, 7, 1},        // one row each
                                   {{0, 0, 0}, 5, 6},           // no row at all
                                   {{0, 100, 131}, 64, 48}};

class GroupedGemm : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) { return TestTensor(dtype(), shape, test_data(shape.count(), seed)); }
  static Tensor view(const std::vector<int64_t>& offsets) {
    return {const_cast<int64_t*>(offsets.data()), DType::kI64, Device::kCpu, {static_cast<int64_t>(offsets.size())}};
  }
};

TEST_P(GroupedGemm, ForwardEqualsTheScalarProducts) {
  for (const Sizes& s : kSizes) {
    const TestTensor x = tensor({s.rows(), s.in}, 1), w = tensor({s.experts(), s.out, s.in}, 2),
                     y(dtype(), {s.rows(), s.out});
    grouped_linear_forward(stream(), x, w, view(s.offsets), y);
    EXPECT_LE(relative_l2(y.values(), reference::grouped_linear(x.values(), w.values(), s.offsets, s.in, s.out)),
              tolerance(dtype()));
  }
}

TEST_P(GroupedGemm, GradientsEqualTheComplexStep) {
  for (const Sizes& s : kSizes) {
    const Shape w_shape{s.experts(), s.out, s.in};
    const TestTensor x = tensor({s.rows(), s.in}, 1), w = tensor(w_shape, 2), dy = tensor({s.rows(), s.out}, 3);
    const std::vector<double> anything(size_t(w_shape.count()), std::numeric_limits<double>::quiet_NaN());
    const TestTensor dx(dtype(), {s.rows(), s.in}), dw(dtype(), w_shape, anything);
    grouped_linear_backward_input(stream(), dy, w, view(s.offsets), dx);
    grouped_linear_backward_weight(stream(), dy, x, view(s.offsets), dw, false);

    const reference::Directions along_x(s.rows() * s.in), along_w(w_shape.count());
    const auto x_slopes = along_x.slopes(x.values(), [&](const std::vector<Complex>& moved) {
      return reference::weighted_sum(
          dy.values(),
          reference::grouped_linear(moved, reference::as_type<Complex>(w.values()), s.offsets, s.in, s.out));
    });
    const auto w_slopes = along_w.slopes(w.values(), [&](const std::vector<Complex>& moved) {
      return reference::weighted_sum(dy.values(), reference::grouped_linear(reference::as_type<Complex>(x.values()),
                                                                            moved, s.offsets, s.in, s.out));
    });
    EXPECT_LE(relative_l2(along_x.project(dx.values()), x_slopes), tolerance(dtype()));
    EXPECT_LE(relative_l2(along_w.project(dw.values()), w_slopes), tolerance(dtype()));
  }
}

TEST_P(GroupedGemm, WeightGradientsAddToWhatIsThere) {
  for (const Sizes& s : kSizes) {
    const TestTensor x = tensor({s.rows(), s.in}, 1), dy = tensor({s.rows(), s.out}, 3),
                     once(dtype(), {s.experts(), s.out, s.in}), sum = tensor({s.experts(), s.out, s.in}, 4);
    std::vector<double> want = sum.values();
    grouped_linear_backward_weight(stream(), dy, x, view(s.offsets), once, false);
    grouped_linear_backward_weight(stream(), dy, x, view(s.offsets), sum, true);
    const std::vector<double> term = once.values();
    for (size_t i = 0; i < want.size(); ++i) want[i] += term[i];
    EXPECT_LE(relative_l2(sum.values(), want), tolerance(dtype()));
  }
}

TEST_P(GroupedGemm, RefusesOffsetsThatDoNotBelongToTheRows) {
  const TestTensor x = tensor({4, 3}, 1), w = tensor({2, 5, 3}, 2), y(dtype(), {4, 5});
  for (const std::vector<int64_t>& offsets : {std::vector<int64_t>{0, 2, 5}, {1, 2, 4}, {0, 6, 4}, {0, 4}}) {
    EXPECT_THROW(grouped_linear_forward(stream(), x, w, view(offsets), y), Error);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, GroupedGemm, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
