#include "kernels/switch_heads.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/switch_heads.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;

struct Pools {
  int64_t tokens, heads, experts, top_k, head_dim;
};
constexpr Pools kPools[] = {{0, 2, 3, 1, 4}, {1, 1, 1, 1, 1}, {5, 2, 4, 2, 7}, {9, 3, 8, 8, 16}, {33, 2, 5, 1, 33}};

class SwitchHeads : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) {
    return TestTensor(dtype(), shape, reference::test_data(shape.count(), seed));
  }
  TestTensor pool(const Pools& p) { return tensor({p.tokens, p.heads, p.experts, p.head_dim}, 1); }
  TestTensor logits(const Pools& p) { return tensor({p.tokens, p.heads, p.experts}, 2); }
};

template <class T>
std::vector<T> equations(const Pools& p, const std::vector<T>& y, const std::vector<T>& z) {
  return reference::switch_heads(y, z, static_cast<size_t>(p.experts), static_cast<size_t>(p.top_k),
                                 static_cast<size_t>(p.head_dim));
}

TEST_P(SwitchHeads, ForwardEqualsItsEquation) {
  for (const Pools& p : kPools) {
    const TestTensor y = pool(p), z = logits(p), out(dtype(), {p.tokens, p.heads, p.head_dim});
    switch_heads_forward(stream(), p.top_k, y, z, out);
    EXPECT_LE(relative_l2(out.values(), equations(p, y.values(), z.values())), tolerance(dtype()));
  }
}

TEST_P(SwitchHeads, GradientsEqualTheComplexStep) {
  for (const Pools& p : kPools) {
    const TestTensor y = pool(p), z = logits(p), dout = tensor({p.tokens, p.heads, p.head_dim}, 3);
    const TestTensor dy(dtype(), {p.tokens, p.heads, p.experts, p.head_dim}),
        dz(dtype(), {p.tokens, p.heads, p.experts});
    switch_heads_backward(stream(), p.top_k, dout, y, z, dy, dz);
    const auto loss = [&](const std::vector<Complex>& y_moved, const std::vector<Complex>& z_moved) {
      return reference::weighted_sum(dout.values(), equations(p, y_moved, z_moved));
    };
    const auto y_there = reference::as_type<Complex>(y.values()), z_there = reference::as_type<Complex>(z.values());
    const reference::Directions of_y(static_cast<int64_t>(y_there.size())), of_z(static_cast<int64_t>(z_there.size()));
    const auto y_slopes = of_y.slopes(y.values(), [&](const auto& moved) { return loss(moved, z_there); });
    const auto z_slopes = of_z.slopes(z.values(), [&](const auto& moved) { return loss(y_there, moved); });
    EXPECT_LE(relative_l2(of_y.project(dy.values()), y_slopes), tolerance(dtype()));
    EXPECT_LE(relative_l2(of_z.project(dz.values()), z_slopes), tolerance(dtype()));

    const TestTensor dz_again(dtype(), {p.tokens, p.heads, p.experts});
    switch_heads_backward(stream(), p.top_k, dout, y, z, y, dz_again);
    EXPECT_TRUE(y.same_bits(dy)) << "dy in place of y";
    EXPECT_TRUE(dz_again.same_bits(dz));
  }
}

TEST_P(SwitchHeads, OfEqualScoresTheFirstIsChosen) {
  const TestTensor y(dtype(), {1, 1, 3, 1}, {1, 2, 4}), z(dtype(), {1, 1, 3}, {-1, 0, 0}), out(dtype(), {1, 1, 1});
  switch_heads_forward(stream(), 1, y, z, out);
  EXPECT_EQ(out.values()[0], 0.5 * 2);
}

TEST_P(SwitchHeads, RefusesMoreExpertsThanThereAre) {
  const TestTensor y = tensor({2, 1, 3, 4}, 1), z = tensor({2, 1, 3}, 2), out(dtype(), {2, 1, 4});
  EXPECT_THROW(switch_heads_forward(stream(), 4, y, z, out), Error);
  EXPECT_THROW(switch_heads_forward(stream(), 0, y, z, out), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, SwitchHeads, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
