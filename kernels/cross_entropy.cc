#include "kernels/cross_entropy.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses);
                void cross_entropy_part(Stream& s, Tensor logits, Tensor targets, VocabularyPart part,
                                        bool with_gradient, Tensor stats);
                void cross_entropy_combine(Stream& s, Tensor logits, Tensor targets, VocabularyPart part, Tensor stats,
                                           int64_t own, double gradient_scale, Tensor losses);)

namespace sluice {
namespace {

void check(const Stream& s, Tensor logits, Tensor targets, int64_t vocab) {
  expect("logits", logits, logits.dtype, {logits.dim(0), logits.dim(1)});
  expect("targets", targets, DType::kI32, {logits.dim(0)});
  if (!s.on_host()) return;
  for (int64_t t = 0; t < targets.count(); ++t) {
    const int32_t id = targets.as<int32_t>()[t];
    ENSURE(id >= -1 && id < vocab, "target ", id, " of row ", t, " is not below the vocabulary of ", vocab);
  }
}

}  // namespace

void cross_entropy(Stream& s, Tensor logits, Tensor targets, double gradient_scale, Tensor losses) {
  check(s, logits, targets, logits.dim(1));
  expect("losses", losses, DType::kF64, {logits.dim(0)});
  SLUICE_DISPATCH(cross_entropy, s, logits, targets, gradient_scale, losses);
}

void cross_entropy_part(Stream& s, Tensor logits, Tensor targets, VocabularyPart part, bool with_gradient,
                        Tensor stats) {
  check(s, logits, targets, part.vocab);
  expect("stats", stats, DType::kF64, {logits.dim(0), 3});
  SLUICE_DISPATCH(cross_entropy_part, s, logits, targets, part, with_gradient, stats);
}

void cross_entropy_combine(Stream& s, Tensor logits, Tensor targets, VocabularyPart part, Tensor stats, int64_t own,
                           double gradient_scale, Tensor losses) {
  check(s, logits, targets, part.vocab);
  expect("stats", stats, DType::kF64, {stats.dim(0), logits.dim(0), 3});
  expect("losses", losses, DType::kF64, {logits.dim(0)});
  INVARIANT(own >= 0 && own < stats.dim(0), "part ", own, " of ", stats.dim(0));
  SLUICE_DISPATCH(cross_entropy_combine, s, logits, targets, part, stats, own, gradient_scale, losses);
}

}  // namespace sluice
