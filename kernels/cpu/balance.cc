#include "kernels/balance.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void balance_loss(Stream&, Tensor counts, Tensor prob_sums, double per_token, double coef, Tensor gradient,
                  Tensor loss) {
  const int64_t experts = counts.count();
  const int64_t* n = counts.as<int64_t>();
  const double* p = prob_sums.as<double>();
  int64_t total = 0;
  for (int64_t i = 0; i < experts; ++i) total += n[i];
  // No assignment at all (an empty call): every share is 0.
  const double factor = total ? per_token * static_cast<double>(experts) / static_cast<double>(total) : 0;
  double value = 0;
  for (int64_t i = 0; i < experts; ++i) value += factor * static_cast<double>(n[i]) * p[i];
  *loss.as<double>() += value;
  dispatch_float(gradient.dtype, [&]<class T>() {
    T* g = gradient.as<T>();
    for (int64_t i = 0; i < experts; ++i) g[i] = static_cast<T>(coef * factor * static_cast<double>(n[i]));
  });
}

void add_counts(Stream&, Tensor counts, Tensor total) {
  const int64_t* from = counts.as<int64_t>();
  int64_t* to = total.as<int64_t>();
  for (int64_t i = 0; i < counts.count(); ++i) to[i] += from[i];
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
