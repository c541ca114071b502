#include "kernels/gate.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out);
                void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz);)

namespace sluice {
namespace {

void check(const GateOp& op, Tensor y, Tensor z) {
  expect("y", y, y.dtype, {y.dim(0), y.dim(1), y.dim(2)});
  const bool headwise = op.granularity == GateGranularity::kHeadwise;
  expect("z", z, y.dtype, headwise ? Shape{y.dim(0), y.dim(1)} : y.shape);
}

}  // namespace

void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out) {
  check(op, y, z);
  expect("out", out, y.dtype, y.shape);
  SLUICE_DISPATCH(s, gate_forward(s, op, y, z, out));
}

void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz) {
  check(op, y, z);
  expect("dout", dout, y.dtype, y.shape);
  expect("dy", dy, y.dtype, y.shape);
  expect("dz", dz, y.dtype, z.shape);
  SLUICE_DISPATCH(s, gate_backward(s, op, dout, y, z, dy, dz));
}

}  // namespace sluice
