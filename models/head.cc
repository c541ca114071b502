#include "models/head.h"

#include <algorithm>
#include <optional>

#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"
#include "parallel/token_parallel.h"

namespace sluice {
namespace {

// Logits at a time: small enough to stay in the last-level cache, many enough rows for a good matrix product.
constexpr int64_t kLogitsAtATime = int64_t{1} << 22;
constexpr int64_t kFewestRows = 64;

/// Loss and, unless scale is 0, gradient in place of a block of logits [rows, vocab / tp].
void block_loss(StepContext& ctx, Tensor logits, Tensor targets, double scale, Tensor losses) {
  ProcessGroup& tp = ctx.mesh.tp();
  if (tp.size() == 1) return cross_entropy(ctx.stream, logits, targets, scale, losses);
  const ArenaScope scope(ctx.scratch);
  const int64_t rows = logits.dim(0), width = logits.dim(1);
  const VocabularyPart part{tp.rank() * width, tp.size() * width};
  const Tensor own = ctx.scratch.alloc("softmax_stats", DType::kF64, {rows, 3});
  const Tensor all = ctx.scratch.alloc("all_softmax_stats", DType::kF64, {tp.size(), rows, 3});
  cross_entropy_part(ctx.stream, logits, targets, part, scale != 0, own);
  tp.all_gather(own, all).wait();
  cross_entropy_combine(ctx.stream, logits, targets, part, all, tp.rank(), scale, losses);
}

}  // namespace

void head_loss(StepContext& ctx, Tensor own_x, Tensor w, Tensor targets, double gradient_scale, Tensor losses,
               Tensor own_dx, Tensor dw) {
  const ArenaScope scope(ctx.scratch);
  const Tensor x = gather_tokens(ctx.mesh.tp(), ctx.scratch, own_x);
  const int64_t tokens = x.dim(0), vocab = w.dim(0);
  const int64_t rows_at_a_time = std::min(tokens, std::max(kFewestRows, kLogitsAtATime / vocab));
  const Tensor block = ctx.scratch.alloc("logits", x.dtype, {rows_at_a_time, vocab});
  std::optional<PartialSum> dx;
  if (gradient_scale != 0) dx.emplace(ctx.stream, ctx.mesh.tp(), ctx.scratch, Tensor{}, own_dx, Site::current());
  for (int64_t begin = 0; begin < tokens; begin += rows_at_a_time) {
    const int64_t rows = std::min(rows_at_a_time, tokens - begin);
    const Tensor logits = block.rows(0, rows);
    linear_forward(ctx.stream, x.rows(begin, rows), w, logits);
    block_loss(ctx, logits, targets.rows(begin, rows), gradient_scale, losses.rows(begin, rows));
    if (gradient_scale == 0) continue;
    linear_backward_input(ctx.stream, logits, w, dx->term().rows(begin, rows));
    linear_backward_weight(ctx.stream, logits, x.rows(begin, rows), dw);
  }
  if (dx) dx->finish();
}

}  // namespace sluice
