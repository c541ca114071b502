#include "kernels/embedding.h"

#include <cstring>

#include "kernels/core/parallel_for.h"

namespace sluice::cpu::SLUICE_CPU_NAMESPACE {

void embedding_forward(Stream& s, Tensor tokens, Tensor w, VocabularyPart part, Tensor y) {
  const int32_t* ids = tokens.as<int32_t>();
  const int64_t row_bytes = w.dim(1) * dtype_bytes(w.dtype);
  const char* from = static_cast<const char*>(w.data);
  char* to = static_cast<char*>(y.data);
  parallel_for(s, tokens.count(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = ids[t] - part.first;
      if (row >= 0 && row < w.dim(0)) {
        std::memcpy(to + t * row_bytes, from + row * row_bytes, static_cast<size_t>(row_bytes));
      } else {
        std::memset(to + t * row_bytes, 0, static_cast<size_t>(row_bytes));
      }
    }
  });
}

void embedding_backward(Stream& s, Tensor tokens, Tensor dy, VocabularyPart part, Tensor dw) {
  const int32_t* ids = tokens.as<int32_t>();
  const int64_t hidden = dw.dim(1);
  dispatch_float(dw.dtype, [&]<class T>() {
    const T* from = dy.as<T>();
    T* to = dw.as<T>();
    // A column belongs to one worker, so that the tokens of a row are added in their order.
    parallel_for(s, hidden, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = 0; t < tokens.count(); ++t) {
        const int64_t at = ids[t] - part.first;
        if (at < 0 || at >= dw.dim(0)) continue;
        const T* source = from + t * hidden;
        T* row = to + at * hidden;
        for (int64_t i = begin; i < end; ++i) row[i] += source[i];
      }
    });
  });
}

}  // namespace sluice::cpu::SLUICE_CPU_NAMESPACE
