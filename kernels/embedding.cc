#include "kernels/embedding.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void embedding_forward(Stream& s, Tensor tokens, Tensor w, VocabularyPart part, Tensor y);
                void embedding_backward(Stream& s, Tensor tokens, Tensor dy, VocabularyPart part, Tensor dw);)

namespace sluice {
namespace {

void check(const Stream& s, Tensor tokens, Tensor w, VocabularyPart part, Tensor y) {
  expect("tokens", tokens, DType::kI32, {y.dim(0)});
  expect("y", y, y.dtype, {y.dim(0), w.dim(1)});
  if (!s.on_host()) return;
  for (int64_t t = 0; t < tokens.count(); ++t) {
    const int32_t id = tokens.as<int32_t>()[t];
    ENSURE(id >= 0 && id < part.vocab, "token id ", id, " at position ", t, " is not below the vocabulary of ",
           part.vocab);
  }
}

}  // namespace

void embedding_forward(Stream& s, Tensor tokens, Tensor w, VocabularyPart part, Tensor y) {
  check(s, tokens, w, part, y);
  expect("w", w, y.dtype, w.shape);
  SLUICE_DISPATCH_WITH_COST((OpCost{"embedding_forward", 0, bytes_of_tensors(tokens, y, y)}), embedding_forward, s,
                            tokens, w, part, y);
}

void embedding_backward(Stream& s, Tensor tokens, Tensor dy, VocabularyPart part, Tensor dw) {
  check(s, tokens, dw, part, dy);
  expect("dw", dw, exact_dtype(dy.dtype), dw.shape);
  SLUICE_DISPATCH_WITH_COST((OpCost{"embedding_backward", 0, bytes_of_tensors(tokens, dy, dy, dy)}), embedding_backward,
                            s, tokens, dy, part, dw);
}

}  // namespace sluice
