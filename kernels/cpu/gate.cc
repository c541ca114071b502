#include "kernels/gate.h"

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/gate_activation.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// One head: z has a score for all channels or one for each.
template <GateActivation kActivation, bool kMultiply, class T>
inline void forward_head(const T* y, const T* z, T* out, int64_t head_dim, int64_t z_width) {
  if (z_width == 1) {
    const T score = activate<kActivation>(z[0]).value;
#pragma GCC ivdep
    for (int64_t i = 0; i < head_dim; ++i) out[i] = kMultiply ? y[i] * score : y[i] + score;
    return;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < head_dim; ++i) {
    const T score = activate<kActivation>(z[i]).value;
    out[i] = kMultiply ? y[i] * score : y[i] + score;
  }
}

/// dz is added to where heads before this one have the same score.
template <GateActivation kActivation, bool kMultiply, bool kAdd, class T>
inline void backward_head(const T* dout, const T* y, const T* z, T* dy, T* dz, int64_t head_dim, int64_t z_width) {
  if (z_width == 1) {
    LaneSum<T> dscore;
    dscore.add(head_dim, [&](int64_t i) { return kMultiply ? dout[i] * y[i] : dout[i]; });
    const Activated<T> gate = activate<kActivation>(z[0]);
    const T dlogit = dscore.total() * gate.slope;
    dz[0] = kAdd ? dz[0] + dlogit : dlogit;
#pragma GCC ivdep
    for (int64_t i = 0; i < head_dim; ++i) dy[i] = kMultiply ? dout[i] * gate.value : dout[i];
    return;
  }
#pragma GCC ivdep
  for (int64_t i = 0; i < head_dim; ++i) {
    const T d = dout[i];
    const Activated<T> gate = activate<kActivation>(z[i]);
    const T dlogit = (kMultiply ? d * y[i] : d) * gate.slope;
    dz[i] = kAdd ? dz[i] + dlogit : dlogit;
    dy[i] = kMultiply ? d * gate.value : d;
  }
}

/// Calls body.operator()<activation, multiply>().
template <class Body>
void dispatch_gate(const GateOp& op, const Body& body) {
  dispatch_activation(op.activation, [&]<GateActivation kActivation>() {
    if (op.combine == GateCombine::kMultiply) return body.template operator()<kActivation, true>();
    body.template operator()<kActivation, false>();
  });
}

/// Where the heads of a tensor of scores lie.
struct ScoreRows {
  explicit ScoreRows(Tensor z)
      : token_stride(z.dim(1) * z.dim(2)), head_stride(z.dim(1) == 1 ? 0 : z.dim(2)), width(z.dim(2)) {}

  int64_t at(int64_t token, int64_t head) const { return token * token_stride + head * head_stride; }

  int64_t token_stride, head_stride, width;
};

}  // namespace

void gate_forward(Stream& s, const GateOp& op, Tensor y, Tensor z, Tensor out) {
  const int64_t heads = y.dim(1), head_dim = y.dim(2);
  const ScoreRows scores(z);
  dispatch_float(y.dtype, [&]<class T>() {
    dispatch_gate(op, [&]<GateActivation kActivation, bool kMultiply>() {
      parallel_for(s, y.dim(0) * heads, heads, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
          forward_head<kActivation, kMultiply>(y.as<T>() + row * head_dim,
                                               z.as<T>() + scores.at(row / heads, row % heads),
                                               out.as<T>() + row * head_dim, head_dim, scores.width);
        }
      });
    });
  });
}

void gate_backward(Stream& s, const GateOp& op, Tensor dout, Tensor y, Tensor z, Tensor dy, Tensor dz) {
  const int64_t heads = y.dim(1), head_dim = y.dim(2);
  const ScoreRows scores(z);
  dispatch_float(y.dtype, [&]<class T>() {
    dispatch_gate(op, [&]<GateActivation kActivation, bool kMultiply>() {
      parallel_for(s, y.dim(0), 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin * heads; row < end * heads; ++row) {
          const int64_t head = row % heads, at = scores.at(row / heads, head);
          const bool adds = head > 0 && scores.head_stride == 0;
          const auto backward =
              adds ? backward_head<kActivation, kMultiply, true, T> : backward_head<kActivation, kMultiply, false, T>;
          backward(dout.as<T>() + row * head_dim, y.as<T>() + row * head_dim, z.as<T>() + at,
                   dy.as<T>() + row * head_dim, dz.as<T>() + at, head_dim, scores.width);
        }
      });
    });
  });
}

void head_average_forward(Stream& s, GateActivation activation, double weight, Tensor z, Tensor out) {
  const int64_t heads = z.dim(1), width = z.dim(2);
  dispatch_float(z.dtype, [&]<class T>() {
    dispatch_activation(activation, [&]<GateActivation kActivation>() {
      parallel_for(s, z.dim(0), 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t token = begin; token < end; ++token) {
          T* sum = out.as<T>() + token * width;
          for (int64_t h = 0; h < heads; ++h) {
            const T* logits = z.as<T>() + (token * heads + h) * width;
#pragma GCC ivdep
            for (int64_t i = 0; i < width; ++i) {
              const T score = activate<kActivation>(logits[i]).value;
              sum[i] = h == 0 ? score : sum[i] + score;
            }
          }
          for (int64_t i = 0; i < width; ++i) sum[i] *= static_cast<T>(weight);
        }
      });
    });
  });
}

void head_average_backward(Stream& s, GateActivation activation, double weight, Tensor dout, Tensor z, Tensor dz) {
  const int64_t heads = z.dim(1), width = z.dim(2);
  dispatch_float(z.dtype, [&]<class T>() {
    dispatch_activation(activation, [&]<GateActivation kActivation>() {
      parallel_for(s, z.dim(0) * heads, heads, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
          const T *d = dout.as<T>() + row / heads * width, *logits = z.as<T>() + row * width;
          T* dlogits = dz.as<T>() + row * width;
#pragma GCC ivdep
          for (int64_t i = 0; i < width; ++i) {
            dlogits[i] = static_cast<T>(weight) * d[i] * activate<kActivation>(logits[i]).slope;
          }
        }
      });
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
