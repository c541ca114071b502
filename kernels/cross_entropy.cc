#include "kernels/cross_entropy.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses);)

namespace sluice {
namespace {

void check_targets(Tensor targets, int64_t vocab) {
  for (int64_t t = 0; t < targets.count(); ++t) {
    const int32_t id = targets.as<int32_t>()[t];
    ENSURE(id >= -1 && id < vocab, "target ", id, " of row ", t, " is not below the vocabulary of ", vocab);
  }
}

}  // namespace

void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses) {
  expect("logits", logits, logits.dtype, {logits.dim(0), logits.dim(1)});
  expect("targets", targets, DType::kI32, {logits.dim(0)});
  expect("losses", losses, DType::kF64, {logits.dim(0)});
  if (!s.is_cuda()) check_targets(targets, logits.dim(1));
  SLUICE_DISPATCH(s, cross_entropy(s, logits, targets, gradient_scale, losses));
}

}  // namespace sluice
