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

/// What an update reads and writes.
template <class T>
struct Elements {
  T* w;
  const T* g;
  T *m, *v;

  Elements from(int64_t i) const { return {w + i, g + i, m + i, v + i}; }
};

template <bool kEpsilonInRoot, bool kUpdates, bool kMeasures, class T>
void update(const Factors<T>& f, int64_t n, const Elements<T>& x, double* sums) {
  T* __restrict w = x.w;
  const T* __restrict g = x.g;
  T* __restrict m = x.m, * __restrict v = x.v;
  T gradient[kAtATime], change[kAtATime], ratio[kAtATime];
  LaneSum<double> of_gradients, of_changes, of_ratios;
  const auto add_squares = [](LaneSum<double>& sum, int64_t count, const T* of) {
    sum.add(count, [&](int64_t i) { return static_cast<double>(of[i]) * static_cast<double>(of[i]); });
  };
  for (int64_t block = 0; block < n; block += kAtATime) {
    fetch_ahead(g + block, kAtATime);
    fetch_ahead(m + block, kAtATime);
    fetch_ahead(v + block, kAtATime);
    if constexpr (kUpdates) fetch_ahead(w + block, kAtATime);
    const int64_t count = n - block < kAtATime ? n - block : kAtATime;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = block + i;
      const T gi = f.clip * g[at];
      const T mi = multiply_add(f.b1, m[at], f.a1 * gi);
      const T vi = multiply_add(f.b2, v[at], f.a2 * gi * gi);
      const T denominator = f.template denominator<kEpsilonInRoot>(vi);
      if constexpr (kMeasures) {
        const T root = std::sqrt(vi) * f.root;
        gradient[i] = g[at];
        change[i] = f.first * mi / denominator;
        ratio[i] = gi / (root > f.least_root ? root : f.least_root);
      }
      if constexpr (kUpdates) {
        m[at] = mi;
        v[at] = vi;
        w[at] -= multiply_add(f.decay, w[at], f.rate * mi / denominator);
      }
    }
    if constexpr (kMeasures) {
      add_squares(of_gradients, count, gradient);
      add_squares(of_changes, count, change);
      add_squares(of_ratios, count, ratio);
    }
  }
  if constexpr (kMeasures) {
    sums[0] += of_gradients.total();
    sums[1] += of_changes.total();
    sums[2] += of_ratios.total();
  }
}

template <class T>
auto form_of(bool epsilon_in_root, bool updates, bool measures) {
  constexpr auto pick = []<bool kUpdates, bool kMeasures>(bool in_root) {
    return in_root ? update<true, kUpdates, kMeasures, T> : update<false, kUpdates, kMeasures, T>;
  };
  if (!updates) return pick.template operator()<false, true>(epsilon_in_root);
  return measures ? pick.template operator()<true, true>(epsilon_in_root)
                  : pick.template operator()<true, false>(epsilon_in_root);
}

/// `body(block, sums)` for each block of n elements; adds up the sums [3] of all in their order.
template <class Body>
void sum_over_blocks(Stream& s, int64_t n, double* totals, const Body& body) {
  constexpr int64_t kBlocksARound = ThreadPool::kWorkspaceBytes / static_cast<int64_t>(3 * sizeof(double));
  for (int i = 0; i < 3; ++i) totals[i] = 0;
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  // Of each block, in worker 0's workspace; nothing else needs it meanwhile.
  double* parts = static_cast<double*>(s.pool->workspace(0));
  for (int64_t done = 0; done < blocks; done += kBlocksARound) {
    const int64_t round = blocks - done < kBlocksARound ? blocks - done : kBlocksARound;
    parallel_for(s, round, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t b = begin; b < end; ++b) {
        for (int i = 0; i < 3; ++i) parts[3 * b + i] = 0;
        body(done + b, parts + 3 * b);
      }
    });
    for (int64_t i = 0; i < 3 * round; ++i) totals[i % 3] += parts[i];
  }
}

}  // namespace

void adamw(Stream& s, const AdamW& op, Tensor weight, Tensor grad, Tensor m, Tensor v, Tensor clip_factor, Tensor skip,
           Tensor sums) {
  const bool updates = skip && !*skip.as<int32_t>();
  if (!updates && !sums) return;
  dispatch_float(grad.dtype, [&]<class T>() {
    const Factors<T> factors(op, *clip_factor.as<double>());
    const Elements<T> all{weight ? weight.as<T>() : nullptr, grad.as<T>(), m.as<T>(), v.as<T>()};
    const auto run = form_of<T>(op.epsilon_in_root, updates, static_cast<bool>(sums));
    const int64_t n = grad.count();
    if (!sums) {
      return parallel_for(
          s, n, kBlock, [&](int64_t begin, int64_t end, int) { run(factors, end - begin, all.from(begin), nullptr); });
    }
    sum_over_blocks(s, n, sums.as<double>(), [&](int64_t block, double* part) {
      const int64_t at = block * kBlock;
      run(factors, n - at < kBlock ? n - at : kBlock, all.from(at), part);
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
