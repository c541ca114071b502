#include "kernels/switch_heads.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void switch_heads_forward(Stream& s, int64_t top_k, Tensor y, Tensor z, Tensor out);
                void switch_heads_backward(Stream& s, int64_t top_k, Tensor dout, Tensor y, Tensor z, Tensor dy,
                                           Tensor dz);)

namespace sluice {
namespace {

void check(int64_t top_k, Tensor y, Tensor z, Tensor out) {
  expect("y", y, y.dtype, {y.dim(0), y.dim(1), y.dim(2), y.dim(3)});
  expect("z", z, y.dtype, {y.dim(0), y.dim(1), y.dim(2)});
  expect("out", out, y.dtype, {y.dim(0), y.dim(1), y.dim(3)});
  INVARIANT(y.dim(2) <= kMaxSwitchExperts && top_k >= 1 && top_k <= y.dim(2), "top ", top_k, " of ", y.dim(2),
            " experts; at most ", kMaxSwitchExperts);
}

}  // namespace

void switch_heads_forward(Stream& s, int64_t top_k, Tensor y, Tensor z, Tensor out) {
  check(top_k, y, z, out);
  SLUICE_DISPATCH(switch_heads_forward, s, top_k, y, z, out);
}

void switch_heads_backward(Stream& s, int64_t top_k, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz) {
  check(top_k, y, z, dout);
  expect("dy", dy, y.dtype, y.shape);
  expect("dz", dz, y.dtype, z.shape);
  SLUICE_DISPATCH(switch_heads_backward, s, top_k, dout, y, z, dy, dz);
}

}  // namespace sluice
