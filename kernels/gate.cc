#include "kernels/gate.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out);
                void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz);
                void head_average_forward(Stream& s, GateActivation activation, double weight, Tensor z, Tensor out);
                void head_average_backward(Stream& s, GateActivation activation, double weight, Tensor dout, Tensor z,
                                           Tensor dz);)

namespace sluice {
namespace {

void check(Tensor y, Tensor z) {
  expect("y", y, y.dtype, {y.dim(0), y.dim(1), y.dim(2)});
  INVARIANT(z.shape.rank() == 3, "z must be [tokens, heads, channels], got ", to_string(z.shape));
  const auto all_or_one = [&](int axis) { return z.dim(axis) == 1 ? int64_t{1} : y.dim(axis); };
  expect("z", z, y.dtype, {y.dim(0), all_or_one(1), all_or_one(2)});
}

void check_average(Tensor z, Tensor average) {
  expect("z", z, z.dtype, {z.dim(0), z.dim(1), z.dim(2)});
  expect("out", average, z.dtype, {z.dim(0), 1, z.dim(2)});
}

}  // namespace

void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out) {
  check(y, z);
  expect("out", out, y.dtype, y.shape);
  SLUICE_DISPATCH(gate_forward, s, op, y, z, out);
}

void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz) {
  check(y, z);
  expect("dout", dout, y.dtype, y.shape);
  expect("dy", dy, y.dtype, y.shape);
  expect("dz", dz, y.dtype, z.shape);
  SLUICE_DISPATCH(gate_backward, s, op, dout, y, z, dy, dz);
}

void head_average_forward(Stream& s, GateActivation activation, double weight, Tensor z, Tensor out) {
  check_average(z, out);
  SLUICE_DISPATCH(head_average_forward, s, activation, weight, z, out);
}

void head_average_backward(Stream& s, GateActivation activation, double weight, Tensor dout, Tensor z, Tensor dz) {
  check_average(z, dout);
  expect("dz", dz, z.dtype, z.shape);
  SLUICE_DISPATCH(head_average_backward, s, activation, weight, dout, z, dz);
}

}  // namespace sluice
