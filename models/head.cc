#include "models/head.h"

#include <algorithm>

#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"

namespace sluice {
namespace {

// Logits at a time: small enough to stay in the last-level cache, many enough rows for a good matrix product.
constexpr int64_t kLogitsAtATime = int64_t{1} << 22;
constexpr int64_t kFewestRows = 64;

}  // namespace

void head_loss(StepContext& ctx, Tensor x, Tensor w, Tensor targets, double gradient_scale, Tensor losses, Tensor dx,
               Tensor dw) {
  const int64_t tokens = x.dim(0), vocab = w.dim(0);
  const int64_t rows_at_a_time = std::min(tokens, std::max(kFewestRows, kLogitsAtATime / vocab));
  const ArenaScope scope(ctx.scratch);
  const Tensor block = ctx.scratch.alloc("logits", x.dtype, {rows_at_a_time, vocab});
  for (int64_t begin = 0; begin < tokens; begin += rows_at_a_time) {
    const int64_t rows = std::min(rows_at_a_time, tokens - begin);
    const Tensor logits = block.rows(0, rows);
    linear_forward(ctx.stream, x.rows(begin, rows), w, logits);
    cross_entropy(ctx.stream, logits, targets.rows(begin, rows), gradient_scale, losses.rows(begin, rows));
    if (gradient_scale == 0) continue;
    linear_backward_input(ctx.stream, logits, w, dx.rows(begin, rows));
    linear_backward_weight(ctx.stream, logits, x.rows(begin, rows), dw);
  }
}

}  // namespace sluice
