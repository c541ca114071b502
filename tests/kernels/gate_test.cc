#include "kernels/gate.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/activations.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/gate.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;

constexpr GateCombine kCombines[] = {GateCombine::kMultiply, GateCombine::kAdd};
constexpr GateActivation kActivations[] = {GateActivation::kSigmoid, GateActivation::kSilu, GateActivation::kNsSigmoid,
                                           GateActivation::kTwiceSigmoid, GateActivation::kIdentity};
const std::vector<Shape> kShapes = {{0, 2, 8}, {1, 1, 1}, {1, 3, 7}, {7, 2, 33}, {33, 4, 16}};

template <class T>
T activate(GateActivation activation, T z) {
  switch (activation) {
    case GateActivation::kSigmoid:
      return reference::sigmoid(z);
    case GateActivation::kSilu:
      return reference::silu(z);
    case GateActivation::kNsSigmoid:
      return reference::ns_sigmoid(z);
    case GateActivation::kTwiceSigmoid:
      return 2.0 * reference::sigmoid(z);
    case GateActivation::kIdentity:
      break;
  }
  return reference::identity(z);
}

/// y and z with the shapes of the kernel's arguments.
template <class T>
std::vector<T> gate(const GateOp& op, Shape shape, Shape scores, const std::vector<T>& y, const std::vector<T>& z) {
  std::vector<T> of_heads;
  for (size_t i = 0; i < y.size() / static_cast<size_t>(shape[2]); ++i) {
    const size_t token = i / static_cast<size_t>(shape[1]), head = i % static_cast<size_t>(shape[1]);
    const size_t row = token * static_cast<size_t>(scores[1]) + (scores[1] == 1 ? 0 : head);
    const auto begin = z.begin() + static_cast<std::ptrdiff_t>(row) * scores[2];
    of_heads.insert(of_heads.end(), begin, begin + scores[2]);
  }
  return reference::gate(y, of_heads, scores[2] == 1 ? shape[2] : 1, op.combine == GateCombine::kMultiply,
                         [&](T score) { return activate(op.activation, score); });
}

template <class T>
std::vector<T> head_average(GateActivation activation, double weight, Shape shape, const std::vector<T>& z) {
  const size_t heads = static_cast<size_t>(shape[1]), width = static_cast<size_t>(shape[2]);
  std::vector<T> out(z.size() / heads);
  for (size_t i = 0; i < z.size(); ++i) {
    out[i / (heads * width) * width + i % width] += weight * activate(activation, z[i]);
  }
  return out;
}

class Gate : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) {
    std::vector<double> values = reference::test_data(shape.count(), seed);
    for (double& value : values) value *= 4;
    return TestTensor(dtype(), shape, values);
  }

  /// Calls body(op, shape, shape of the scores) for every kind of gate and every shape.
  template <class Body>
  void for_each_gate(const Body& body) {
    for (GateCombine combine : kCombines) {
      for (GateActivation activation : kActivations) {
        for (const Shape& shape : kShapes) {
          for (int64_t heads : {shape[1], int64_t{1}}) {
            for (int64_t channels : {shape[2], int64_t{1}}) {
              const Shape scores{shape[0], heads, channels};
              SCOPED_TRACE(concat("combine ", static_cast<int>(combine), " activation ", static_cast<int>(activation),
                                  " ", to_string(shape), " by ", to_string(scores)));
              body(GateOp{combine, activation}, shape, scores);
            }
          }
        }
      }
    }
  }
};

TEST_P(Gate, ForwardEqualsItsEquation) {
  for_each_gate([&](const GateOp& op, Shape shape, Shape scores) {
    const TestTensor y = tensor(shape, 1), z = tensor(scores, 2), out(dtype(), shape);
    gate_forward(stream(), op, y, z, out);
    EXPECT_LE(relative_l2(out.values(), gate(op, shape, scores, y.values(), z.values())), tolerance(dtype()));
    gate_forward(stream(), op, y, z, y);
    EXPECT_TRUE(y.same_bits(out)) << "out in place of y";
  });
}

TEST_P(Gate, GradientsEqualTheComplexStep) {
  for_each_gate([&](const GateOp& op, Shape shape, Shape scores) {
    const TestTensor y = tensor(shape, 1), z = tensor(scores, 2), dout = tensor(shape, 3);
    const TestTensor dy(dtype(), shape), dz(dtype(), scores);
    gate_backward(stream(), op, dout, y, z, dy, dz);

    const auto loss = [&](const std::vector<Complex>& y_moved, const std::vector<Complex>& z_moved) {
      return reference::weighted_sum(dout.values(), gate(op, shape, scores, y_moved, z_moved));
    };
    const auto y_constant = reference::as_type<Complex>(y.values()),
               z_constant = reference::as_type<Complex>(z.values());
    // Fewer than elsewhere: there are many gates.
    constexpr size_t kDirections = 31;
    const reference::Directions of_y(shape.count(), kDirections), of_z(scores.count(), kDirections);
    const auto y_slopes = of_y.slopes(y.values(), [&](const auto& moved) { return loss(moved, z_constant); });
    const auto z_slopes = of_z.slopes(z.values(), [&](const auto& moved) { return loss(y_constant, moved); });
    EXPECT_LE(relative_l2(of_y.project(dy.values()), y_slopes), tolerance(dtype()));
    EXPECT_LE(relative_l2(of_z.project(dz.values()), z_slopes), tolerance(dtype()));

    const TestTensor dz_again(dtype(), scores);
    gate_backward(stream(), op, dout, y, z, dout, dz_again);
    EXPECT_TRUE(dout.same_bits(dy)) << "dy in place of dout";
    EXPECT_TRUE(dz_again.same_bits(dz));
  });
}

TEST_P(Gate, HeadAverageAndItsGradientEqualTheirEquations) {
  for (GateActivation activation : kActivations) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(concat("activation ", static_cast<int>(activation), " ", to_string(shape)));
      const Shape average{shape[0], 1, shape[2]};
      const TestTensor z = tensor(shape, 1), out(dtype(), average), dout = tensor(average, 2), dz(dtype(), shape);
      head_average_forward(stream(), activation, 0.125, z, out);
      EXPECT_LE(relative_l2(out.values(), head_average(activation, 0.125, shape, z.values())), tolerance(dtype()));
      head_average_backward(stream(), activation, 0.125, dout, z, dz);
      const reference::Directions directions(shape.count());
      const auto slopes = directions.slopes(z.values(), [&](const auto& moved) {
        return reference::weighted_sum(dout.values(), head_average(activation, 0.125, shape, moved));
      });
      EXPECT_LE(relative_l2(directions.project(dz.values()), slopes), tolerance(dtype()));
    }
  }
}

TEST_P(Gate, SigmoidStaysFiniteFarFromZeroAndPassesNanOn) {
  const TestTensor y(dtype(), {1, 1, 4}, {1, 1, 1, 1}), out(dtype(), {1, 1, 4});
  const TestTensor z(dtype(), {1, 1, 4}, {-1e4, 1e4, -100, NAN});
  gate_forward(stream(), GateOp{}, y, z, out);
  EXPECT_NEAR(out.values()[0], 0, 1e-37);
  EXPECT_EQ(out.values()[1], 1);
  EXPECT_NEAR(out.values()[2], 0, 1e-37);
  EXPECT_TRUE(std::isnan(out.values()[3]));
}

TEST_P(Gate, RefusesScoresThatBelongToOtherHeads) {
  const TestTensor y = tensor({3, 2, 4}, 1), out(dtype(), {3, 2, 4});
  for (const Shape& wrong : {Shape{3, 2}, Shape{3, 3, 4}, Shape{3, 2, 2}, Shape{2, 2, 4}}) {
    const TestTensor z = tensor(wrong, 2);
    EXPECT_THROW(gate_forward(stream(), GateOp{}, y, z, out), Error) << to_string(wrong);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Gate, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
