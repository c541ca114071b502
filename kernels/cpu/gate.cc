#include "kernels/gate.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

template <class T>
struct Activated {
  T value, slope;
};

/// The gate's activation and its derivative; what is not used costs nothing once inlined.
template <GateActivation kActivation, class T>
inline Activated<T> activate(T z) {
  if constexpr (kActivation == GateActivation::kIdentity) return {z, T(1)};
  const T share = sigmoid(z);
  const T slope = share * (T(1) - share);
  if constexpr (kActivation == GateActivation::kSigmoid) return {share, slope};
  if constexpr (kActivation == GateActivation::kSilu) return {z * share, multiply_add(z, slope, share)};
  return {T(0.5) + T(0.5) * share, T(0.5) * slope};
}

/// Rows of heads: z has `z_width` scores a head, one or one a channel.
template <GateActivation kActivation, bool kMultiply, class T>
void forward_heads(const T* y, const T* z, T* out, int64_t heads, int64_t head_dim, int64_t z_width) {
  for (int64_t h = 0; h < heads; ++h, y += head_dim, z += z_width, out += head_dim) {
    if (z_width == 1) {
      const T score = activate<kActivation>(z[0]).value;
#pragma GCC ivdep
      for (int64_t i = 0; i < head_dim; ++i) out[i] = kMultiply ? y[i] * score : y[i] + score;
      continue;
    }
#pragma GCC ivdep
    for (int64_t i = 0; i < head_dim; ++i) {
      const T score = activate<kActivation>(z[i]).value;
      out[i] = kMultiply ? y[i] * score : y[i] + score;
    }
  }
}

template <GateActivation kActivation, bool kMultiply, class T>
void backward_heads(const T* dout, const T* y, const T* z, T* dy, T* dz, int64_t heads, int64_t head_dim,
                    int64_t z_width) {
  for (int64_t h = 0; h < heads; ++h, dout += head_dim, y += head_dim, dy += head_dim, z += z_width, dz += z_width) {
    if (z_width == 1) {
      LaneSum<T> dscore;
      dscore.add(head_dim, [&](int64_t i) { return kMultiply ? dout[i] * y[i] : dout[i]; });
      const Activated<T> gate = activate<kActivation>(z[0]);
      dz[0] = dscore.total() * gate.slope;
#pragma GCC ivdep
      for (int64_t i = 0; i < head_dim; ++i) dy[i] = kMultiply ? dout[i] * gate.value : dout[i];
      continue;
    }
#pragma GCC ivdep
    for (int64_t i = 0; i < head_dim; ++i) {
      const T d = dout[i];
      const Activated<T> gate = activate<kActivation>(z[i]);
      dz[i] = (kMultiply ? d * y[i] : d) * gate.slope;
      dy[i] = kMultiply ? d * gate.value : d;
    }
  }
}

/// Calls body.operator()<activation, multiply>().
template <class Body>
void dispatch_gate(const GateOp& op, const Body& body) {
  const auto with_combine = [&]<GateActivation kActivation>() {
    if (op.combine == GateCombine::kMultiply) return body.template operator()<kActivation, true>();
    body.template operator()<kActivation, false>();
  };
  switch (op.activation) {
    case GateActivation::kSigmoid:
      return with_combine.template operator()<GateActivation::kSigmoid>();
    case GateActivation::kSilu:
      return with_combine.template operator()<GateActivation::kSilu>();
    case GateActivation::kNsSigmoid:
      return with_combine.template operator()<GateActivation::kNsSigmoid>();
    case GateActivation::kIdentity:
      return with_combine.template operator()<GateActivation::kIdentity>();
  }
}

}  // namespace

void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out) {
  const int64_t heads = y.dim(1), head_dim = y.dim(2);
  const int64_t z_width = op.granularity == GateGranularity::kHeadwise ? 1 : head_dim;
  dispatch_float(y.dtype, [&]<class T>() {
    dispatch_gate(op, [&]<GateActivation kActivation, bool kMultiply>() {
      parallel_for(s, y.dim(0) * heads, heads, [&](int64_t begin, int64_t end, int) {
        forward_heads<kActivation, kMultiply>(y.as<T>() + begin * head_dim, z.as<T>() + begin * z_width,
                                              out.as<T>() + begin * head_dim, end - begin, head_dim, z_width);
      });
    });
  });
}

void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz) {
  const int64_t heads = y.dim(1), head_dim = y.dim(2);
  const int64_t z_width = op.granularity == GateGranularity::kHeadwise ? 1 : head_dim;
  dispatch_float(y.dtype, [&]<class T>() {
    dispatch_gate(op, [&]<GateActivation kActivation, bool kMultiply>() {
      parallel_for(s, y.dim(0) * heads, heads, [&](int64_t begin, int64_t end, int) {
        backward_heads<kActivation, kMultiply>(dout.as<T>() + begin * head_dim, y.as<T>() + begin * head_dim,
                                               z.as<T>() + begin * z_width, dy.as<T>() + begin * head_dim,
                                               dz.as<T>() + begin * z_width, end - begin, head_dim, z_width);
      });
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
