#include "parallel/token_parallel.h"

#include "kernels/elementwise.h"

namespace sluice {

Tensor gather_tokens(ProcessGroup& tp, Arena& arena, Tensor x, Site site) {
  if (tp.size() == 1) return x;
  const Tensor all = arena.alloc("gathered_tokens", x.dtype, {x.dim(0) * tp.size(), x.dim(1)});
  tp.all_gather(x, all, site).wait();
  return all;
}

PartialSum::PartialSum(Stream& s, ProcessGroup& tp, Arena& arena, Tensor base, Tensor result, Site site)
    : s_(s), tp_(tp), arena_(arena), base_(base), result_(result), term_(result), site_(site) {
  if (tp.size() > 1) {
    term_ = arena.alloc("partial_sum", result.dtype, {result.dim(0) * tp.size(), result.dim(1)});
  } else if (base && base.data != result.data) {
    cast(s, base, result);
  }
}

void PartialSum::finish() {
  if (tp_.size() == 1) return;
  const ArenaScope scope(arena_);
  const Tensor sum = base_ ? arena_.alloc("own_sum", result_.dtype, result_.shape) : result_;
  tp_.reduce_scatter(term_, sum, SumOrder::kOrdered, site_).wait();
  if (base_) add(s_, base_, sum, result_);
}

}  // namespace sluice
