#include "kernels/cross_entropy.h"

#include <cmath>
#include <cstring>

#include "kernels/core/parallel_for.h"
#include "kernels/cpu/simd.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {
namespace {

/// Loss of one row; the row becomes its gradient when scale is not 0.
template <class T>
double one_row(T* x, int64_t vocab, int32_t target, double scale) {
  if (target < 0) {
    if (scale != 0) std::memset(x, 0, static_cast<size_t>(vocab) * sizeof(T));
    return 0;
  }
  const T most = largest(x, vocab, x[0]);
  const double target_logit = static_cast<double>(x[target]);
  LaneSum<T> sum;
  if (scale == 0) {
    sum.add(vocab, [&](int64_t i) { return exponential(x[i] - most); });
  } else {
    sum.add(vocab, [&](int64_t i) { return x[i] = exponential(x[i] - most); });
  }
  const double total = static_cast<double>(sum.total());
  if (scale != 0) {
    const T factor = static_cast<T>(scale / total);
    for (int64_t i = 0; i < vocab; ++i) x[i] *= factor;
    x[target] -= static_cast<T>(scale);
  }
  return std::log(total) + static_cast<double>(most) - target_logit;
}

}  // namespace

void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses) {
  const int64_t vocab = logits.dim(1);
  dispatch_float(logits.dtype, [&]<class T>() {
    parallel_for(s, logits.dim(0), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        losses.as<double>()[t] = one_row(logits.as<T>() + t * vocab, vocab, targets.as<int32_t>()[t], gradient_scale);
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
