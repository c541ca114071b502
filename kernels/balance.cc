#include "kernels/balance.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void balance_loss(Stream& s, Tensor counts, Tensor prob_sums, double per_token, double coef,
                                  Tensor gradient, Tensor loss);
                void add_counts(Stream& s, Tensor counts, Tensor total);)

namespace sluice {

void balance_loss(Stream& s, Tensor counts, Tensor prob_sums, double per_token, double coef, Tensor gradient,
                  Tensor loss) {
  const Shape experts{counts.dim(0)};
  expect("counts", counts, DType::kI64, experts);
  expect("prob_sums", prob_sums, DType::kF64, experts);
  expect("gradient", gradient, gradient.dtype, experts);
  expect("loss", loss, DType::kF64, {1});
  SLUICE_DISPATCH(balance_loss, s, counts, prob_sums, per_token, coef, gradient, loss);
}

void add_counts(Stream& s, Tensor counts, Tensor total) {
  expect("counts", counts, DType::kI64, total.shape);
  expect("total", total, DType::kI64, total.shape);
  // In a plan too, where integers have memory, since the host looks at these.
  Stream as_ever = s;
  as_ever.planner = nullptr;
  SLUICE_DISPATCH(add_counts, as_ever, counts, total);
}

}  // namespace sluice
