#include "kernels/adamw.h"

#include <cmath>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void adamw(Stream& s, const AdamW& op, Tensor weight, Tensor grad, Tensor m, Tensor v, Tensor clip_factor,
           Tensor skip) {
  if (*skip.as<int32_t>()) return;
  const double clip = *clip_factor.as<double>();
  const double step = static_cast<double>(op.step);
  const double correction1 = 1 - std::pow(op.beta1, step), correction2 = 1 - std::pow(op.beta2, step);
  dispatch_float(weight.dtype, [&]<class T>() {
    T* __restrict w = weight.as<T>();
    T* __restrict first = m.as<T>();
    T* __restrict second = v.as<T>();
    const T* __restrict g = grad.as<T>();
    const T factor = static_cast<T>(clip), b1 = static_cast<T>(op.beta1), b2 = static_cast<T>(op.beta2);
    const T a1 = static_cast<T>(1 - op.beta1), a2 = static_cast<T>(1 - op.beta2);
    const T rate = static_cast<T>(op.lr / correction1), root = static_cast<T>(1 / std::sqrt(correction2));
    const T epsilon = static_cast<T>(op.epsilon), decay = static_cast<T>(op.lr * op.weight_decay);
    constexpr int64_t kAtATime = 64;
    parallel_for(s, weight.count(), 4096, [&](int64_t begin, int64_t end, int) {
      for (int64_t block = begin; block < end; block += kAtATime) {
        fetch_ahead(g + block, kAtATime);
        fetch_ahead(first + block, kAtATime);
        fetch_ahead(second + block, kAtATime);
        fetch_ahead(w + block, kAtATime);
        const int64_t block_end = end - block < kAtATime ? end : block + kAtATime;
        for (int64_t i = block; i < block_end; ++i) {
          const T gi = factor * g[i];
          const T mi = multiply_add(b1, first[i], a1 * gi);
          const T vi = multiply_add(b2, second[i], a2 * gi * gi);
          first[i] = mi;
          second[i] = vi;
          const T denominator = multiply_add(std::sqrt(vi), root, epsilon);
          w[i] -= multiply_add(decay, w[i], rate * mi / denominator);
        }
      }
    });
  });
}

void clip_by_global_norm(Stream&, Tensor squared_norm, double max_norm, Tensor factor, Tensor norm, Tensor skip) {
  const double root = std::sqrt(*squared_norm.as<double>());
  *norm.as<double>() = root;
  *skip.as<int32_t>() = !(root <= 1.7976931348623157e308);
  const double clipped = max_norm / (root + 1e-6);
  *factor.as<double>() = max_norm > 0 && clipped < 1 ? clipped : 1;
}

void skip_above(Stream&, Tensor value, double scale, double limit, Tensor skip) {
  if (!(scale * *value.as<double>() <= limit)) *skip.as<int32_t>() = 1;
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
