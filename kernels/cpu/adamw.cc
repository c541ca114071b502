#include "kernels/adamw.h"

#include <cmath>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

// What a core holds in its nearest cache, of all four arrays.
constexpr int64_t kAtATime = 64;
constexpr int64_t kBlock = 4096;

/// The settings as an update uses them.
template <class T>
struct Factors {
  Factors(const AdamW& op, double clip_factor)
      : clip(static_cast<T>(clip_factor)),
        b1(static_cast<T>(op.beta1)),
        b2(static_cast<T>(op.beta2)),
        a1(static_cast<T>(1 - op.beta1)),
        a2(static_cast<T>(1 - op.beta2)),
        epsilon(static_cast<T>(op.epsilon)),
        least_root(static_cast<T>(op.epsilon_in_root ? std::sqrt(op.epsilon) : op.epsilon)),
        decay(static_cast<T>(op.lr * op.weight_decay)) {
    const double step = static_cast<double>(op.step);
    const double correction1 = 1 - std::pow(op.beta1, step), correction2 = 1 - std::pow(op.beta2, step);
    first = static_cast<T>(1 / correction1);
    rate = static_cast<T>(op.lr / correction1);
    second = static_cast<T>(1 / correction2);
    root = static_cast<T>(1 / std::sqrt(correction2));
  }
  T clip, b1, b2, a1, a2, epsilon, least_root, decay;
  T first, second;  ///< 1 / (1 - beta^step)
  T rate, root;     ///< the learning rate times the first, the root of the second

  template <bool kEpsilonInRoot>
  T denominator(T v) const {
    if constexpr (kEpsilonInRoot) return std::sqrt(multiply_add(v, second, epsilon));
    return multiply_add(std::sqrt(v), root, epsilon);
  }
};

template <bool kEpsilonInRoot, class T>
void update(const Factors<T>& f, int64_t n, T* __restrict w, const T* __restrict g, T* __restrict m, T* __restrict v) {
  for (int64_t block = 0; block < n; block += kAtATime) {
    fetch_ahead(g + block, kAtATime);
    fetch_ahead(m + block, kAtATime);
    fetch_ahead(v + block, kAtATime);
    fetch_ahead(w + block, kAtATime);
    const int64_t end = n - block < kAtATime ? n : block + kAtATime;
    for (int64_t i = block; i < end; ++i) {
      const T gi = f.clip * g[i];
      const T mi = multiply_add(f.b1, m[i], f.a1 * gi);
      const T vi = multiply_add(f.b2, v[i], f.a2 * gi * gi);
      m[i] = mi;
      v[i] = vi;
      w[i] -= multiply_add(f.decay, w[i], f.rate * mi / f.template denominator<kEpsilonInRoot>(vi));
    }
  }
}

/// Adds to sums [3] what adamw_sums() tells of n elements.
template <bool kEpsilonInRoot, class T>
void add_sums(const Factors<T>& f, int64_t n, const T* g, const T* m, const T* v, double* sums) {
  T gradient[kAtATime], change[kAtATime], ratio[kAtATime];
  LaneSum<double> of_gradients, of_changes, of_ratios;
  const auto add_squares = [](LaneSum<double>& sum, int64_t count, const T* x) {
    sum.add(count, [&](int64_t i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); });
  };
  for (int64_t block = 0; block < n; block += kAtATime) {
    fetch_ahead(g + block, kAtATime);
    fetch_ahead(m + block, kAtATime);
    fetch_ahead(v + block, kAtATime);
    const int64_t count = n - block < kAtATime ? n - block : kAtATime;
    for (int64_t i = 0; i < count; ++i) {
      const T gi = f.clip * g[block + i];
      const T mi = multiply_add(f.b1, m[block + i], f.a1 * gi);
      const T vi = multiply_add(f.b2, v[block + i], f.a2 * gi * gi);
      const T root = std::sqrt(vi) * f.root;
      gradient[i] = g[block + i];
      change[i] = f.first * mi / f.template denominator<kEpsilonInRoot>(vi);
      ratio[i] = gi / (root > f.least_root ? root : f.least_root);
    }
    add_squares(of_gradients, count, gradient);
    add_squares(of_changes, count, change);
    add_squares(of_ratios, count, ratio);
  }
  sums[0] += of_gradients.total();
  sums[1] += of_changes.total();
  sums[2] += of_ratios.total();
}

}  // namespace

void adamw(Stream& s, const AdamW& op, Tensor weight, Tensor grad, Tensor m, Tensor v, Tensor clip_factor,
           Tensor skip) {
  if (*skip.as<int32_t>()) return;
  dispatch_float(weight.dtype, [&]<class T>() {
    const Factors<T> factors(op, *clip_factor.as<double>());
    T *w = weight.as<T>(), *first = m.as<T>(), *second = v.as<T>();
    const T* g = grad.as<T>();
    parallel_for(s, weight.count(), kBlock, [&](int64_t begin, int64_t end, int) {
      const auto run = op.epsilon_in_root ? update<true, T> : update<false, T>;
      run(factors, end - begin, w + begin, g + begin, first + begin, second + begin);
    });
  });
}

void adamw_sums(Stream& s, const AdamW& op, Tensor grad, Tensor m, Tensor v, Tensor clip_factor, Tensor sums) {
  constexpr int64_t kBlocksARound = ThreadPool::kWorkspaceBytes / static_cast<int64_t>(3 * sizeof(double));
  double* totals = sums.as<double>();
  for (int i = 0; i < 3; ++i) totals[i] = 0;
  dispatch_float(grad.dtype, [&]<class T>() {
    const Factors<T> factors(op, *clip_factor.as<double>());
    const T *g = grad.as<T>(), *first = m.as<T>(), *second = v.as<T>();
    const auto run = op.epsilon_in_root ? add_sums<true, T> : add_sums<false, T>;
    const int64_t blocks = (grad.count() + kBlock - 1) / kBlock;
    // Of each block, in worker 0's workspace; nothing else needs it meanwhile.
    double* parts = static_cast<double*>(s.pool->workspace(0));
    for (int64_t done = 0; done < blocks; done += kBlocksARound) {
      const int64_t round = blocks - done < kBlocksARound ? blocks - done : kBlocksARound;
      parallel_for(s, round, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t b = begin; b < end; ++b) {
          const int64_t at = (done + b) * kBlock, left = grad.count() - at;
          for (int i = 0; i < 3; ++i) parts[3 * b + i] = 0;
          run(factors, left < kBlock ? left : kBlock, g + at, first + at, second + at, parts + 3 * b);
        }
      });
      for (int64_t i = 0; i < 3 * round; ++i) totals[i % 3] += parts[i];
    }
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
