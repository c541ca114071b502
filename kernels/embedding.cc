#include "kernels/embedding.h"

#include "kernels/core/backend.h"

SLUICE_BACKENDS(void embedding_forward(Stream& s, Tensor tokens, Tensor w, Tensor y);
                void embedding_backward(Stream& s, Tensor tokens, Tensor dy, Tensor dw);)

namespace sluice {
namespace {

void check(const Stream& s, Tensor tokens, Tensor w, Tensor y) {
  expect("tokens", tokens, DType::kI32, {y.dim(0)});
  expect("y", y, w.dtype, {y.dim(0), w.dim(1)});
  if (s.is_cuda()) return;
  for (int64_t t = 0; t < tokens.count(); ++t) {
    const int32_t id = tokens.as<int32_t>()[t];
    ENSURE(id >= 0 && id < w.dim(0), "token id ", id, " at position ", t, " is not below the vocabulary of ", w.dim(0));
  }
}

}  // namespace

void embedding_forward(Stream& s, Tensor tokens, Tensor w, Tensor y) {
  check(s, tokens, w, y);
  SLUICE_DISPATCH(s, embedding_forward(s, tokens, w, y));
}

void embedding_backward(Stream& s, Tensor tokens, Tensor dy, Tensor dw) {
  check(s, tokens, dw, dy);
  SLUICE_DISPATCH(s, embedding_backward(s, tokens, dy, dw));
}

}  // namespace sluice
