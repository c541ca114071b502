#include "kernels/gate.h"

#include "tests/kernels/kernel_fixture.h"
#include "tests/reference/activations.h"
#include "tests/reference/complex_step.h"
#include "tests/reference/gate.h"

namespace sluice {
namespace {

using reference::Complex;
using reference::relative_l2;

constexpr GateGranularity kGranularities[] = {GateGranularity::kElementwise, GateGranularity::kHeadwise};
constexpr GateCombine kCombines[] = {GateCombine::kMultiply, GateCombine::kAdd};
constexpr GateActivation kActivations[] = {GateActivation::kSigmoid, GateActivation::kSilu, GateActivation::kNsSigmoid,
                                           GateActivation::kIdentity};
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
    case GateActivation::kIdentity:
      break;
  }
  return reference::identity(z);
}

template <class T>
std::vector<T> gate(const GateOp& op, const std::vector<T>& y, const std::vector<T>& z, int64_t head_dim) {
  return reference::gate(y, z, op.granularity == GateGranularity::kHeadwise ? head_dim : 1,
                         op.combine == GateCombine::kMultiply, [&](T score) { return activate(op.activation, score); });
}

class Gate : public KernelTest {
 protected:
  TestTensor tensor(Shape shape, uint64_t seed) {
    std::vector<double> values = reference::test_data(shape.count(), seed);
    for (double& value : values) value *= 4;
    return TestTensor(dtype(), shape, values);
  }
  static Shape scores(const GateOp& op, Shape y) {
    return op.granularity == GateGranularity::kHeadwise ? Shape{y[0], y[1]} : y;
  }

  /// Calls body(op, shape) for every kind of gate and every shape.
  template <class Body>
  void for_each_gate(const Body& body) {
    for (GateGranularity granularity : kGranularities) {
      for (GateCombine combine : kCombines) {
        for (GateActivation activation : kActivations) {
          for (const Shape& shape : kShapes) {
            SCOPED_TRACE(concat("granularity ", static_cast<int>(granularity), " combine ", static_cast<int>(combine),
                                " activation ", static_cast<int>(activation), " ", to_string(shape)));
            body(GateOp{granularity, combine, activation}, shape);
          }
        }
      }
    }
  }
};

TEST_P(Gate, ForwardEqualsItsEquation) {
  for_each_gate([&](const GateOp& op, Shape shape) {
    const TestTensor y = tensor(shape, 1), z = tensor(scores(op, shape), 2), out(dtype(), shape);
    gate_forward(stream(), op, y, z, out);
    EXPECT_LE(relative_l2(out.values(), gate(op, y.values(), z.values(), shape[2])), tolerance(dtype()));
    gate_forward(stream(), op, y, z, y);
    EXPECT_TRUE(y.same_bits(out)) << "out in place of y";
  });
}

TEST_P(Gate, GradientsEqualTheComplexStep) {
  for_each_gate([&](const GateOp& op, Shape shape) {
    const TestTensor y = tensor(shape, 1), z = tensor(scores(op, shape), 2), dout = tensor(shape, 3);
    const TestTensor dy(dtype(), shape), dz(dtype(), scores(op, shape));
    gate_backward(stream(), op, dout, y, z, dy, dz);

    const auto loss = [&](const std::vector<Complex>& y_moved, const std::vector<Complex>& z_moved) {
      return reference::weighted_sum(dout.values(), gate(op, y_moved, z_moved, shape[2]));
    };
    const auto y_constant = reference::as_type<Complex>(y.values()),
               z_constant = reference::as_type<Complex>(z.values());
    const reference::Directions of_y(shape.count()), of_z(scores(op, shape).count());
    const auto y_slopes = of_y.slopes(y.values(), [&](const auto& moved) { return loss(moved, z_constant); });
    const auto z_slopes = of_z.slopes(z.values(), [&](const auto& moved) { return loss(y_constant, moved); });
    EXPECT_LE(relative_l2(of_y.project(dy.values()), y_slopes), tolerance(dtype()));
    EXPECT_LE(relative_l2(of_z.project(dz.values()), z_slopes), tolerance(dtype()));

    const TestTensor dz_again(dtype(), scores(op, shape));
    gate_backward(stream(), op, dout, y, z, dout, dz_again);
    EXPECT_TRUE(dout.same_bits(dy)) << "dy in place of dout";
    EXPECT_TRUE(dz_again.same_bits(dz));
  });
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

TEST_P(Gate, RefusesScoresOfTheOtherGranularity) {
  const TestTensor y = tensor({3, 2, 4}, 1), z = tensor({3, 2}, 2), out(dtype(), {3, 2, 4});
  EXPECT_THROW(gate_forward(stream(), GateOp{}, y, z, out), Error);
  EXPECT_THROW(gate_forward(stream(), GateOp{GateGranularity::kHeadwise, {}, {}}, y, y, out), Error);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Gate, testing::ValuesIn(kernel_cases()), kernel_case_name);

}  // namespace
}  // namespace sluice
