#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// What a part of a row contributes to its softmax.
struct Stats {
  double most, total, target;
};

/// With a gradient, x becomes e^(x - most). `target` is an index of x, or outside of it.
template <class T>
Stats part_of_row(T* x, int64_t width, int64_t target, bool with_gradient) {
  const T most = largest(x, width, x[0]);
  const double target_logit = target >= 0 && target < width ? static_cast<double>(x[target]) : 0;
  LaneSum<T> sum;
  if (with_gradient) {
    sum.add(width, [&](int64_t i) { return x[i] = exponential(x[i] - most); });
  } else {
    sum.add(width, [&](int64_t i) { return exponential(x[i] - most); });
  }
  return {static_cast<double>(most), static_cast<double>(sum.total()), target_logit};
}

/// Loss of a row from the statistics of its parts, `stride` apart; x becomes its gradient when scale is not 0.
template <class T>
double finish_row(T* x, int64_t width, int64_t target, const Stats* stats, int64_t parts, int64_t stride, int64_t own,
                  double scale) {
  double most = stats[0].most, total = 0, target_logit = 0;
  for (int64_t p = 1; p < parts; ++p) most = std::max(most, stats[p * stride].most);
  for (int64_t p = 0; p < parts; ++p) {
    total += stats[p * stride].total * std::exp(stats[p * stride].most - most);
    target_logit += stats[p * stride].target;
  }
  if (scale != 0) {
    const T factor = static_cast<T>(scale * std::exp(stats[own * stride].most - most) / total);
    for (int64_t i = 0; i < width; ++i) x[i] *= factor;
    if (target >= 0 && target < width) x[target] -= static_cast<T>(scale);
  }
  return std::log(total) + most - target_logit;
}

template <class T>
double ignored_row(T* x, int64_t width, double scale) {
  if (scale != 0) std::memset(x, 0, static_cast<size_t>(width) * sizeof(T));
  return 0;
}

}  // namespace

void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses) {
  const int64_t vocab = logits.dim(1);
  dispatch_float(logits.dtype, [&]<class T>() {
    parallel_for(s, logits.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        T* row = logits.as<T>() + t * vocab;
        const int64_t target = targets.as<int32_t>()[t];
        double& loss = losses.as<double>()[t];
        if (target < 0) {
          loss = ignored_row(row, vocab, gradient_scale);
          continue;
        }
        const Stats stats = part_of_row(row, vocab, target, gradient_scale != 0);
        loss = finish_row(row, vocab, target, &stats, 1, 1, 0, gradient_scale);
      }
    });
  });
}

void cross_entropy_part(Stream& s, Tensor logits, Tensor targets, VocabularyPart part, bool with_gradient,
                        Tensor stats) {
  const int64_t width = logits.dim(1);
  dispatch_float(logits.dtype, [&]<class T>() {
    parallel_for(s, logits.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t target = targets.as<int32_t>()[t];
        T* row = logits.as<T>() + t * width;
        const Stats own = target < 0 ? Stats{} : part_of_row(row, width, target - part.first, with_gradient);
        std::memcpy(stats.as<double>() + t * 3, &own, sizeof own);
      }
    });
  });
}

void cross_entropy_combine(Stream& s, Tensor logits, Tensor targets, VocabularyPart part, Tensor stats, int64_t own,
                           double gradient_scale, Tensor losses) {
  const int64_t rows = logits.dim(0), width = logits.dim(1);
  const Stats* all = reinterpret_cast<const Stats*>(stats.as<double>());
  dispatch_float(logits.dtype, [&]<class T>() {
    parallel_for(s, rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t target = targets.as<int32_t>()[t];
        T* row = logits.as<T>() + t * width;
        losses.as<double>()[t] =
            target < 0 ? ignored_row(row, width, gradient_scale)
                       : finish_row(row, width, target - part.first, all + t, stats.dim(0), rows, own, gradient_scale);
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
