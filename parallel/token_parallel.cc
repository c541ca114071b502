#include "parallel/token_parallel.h"

#include "kernels/elementwise.h"

namespace sluice {

Tensor gather_tokens(ProcessGroup& tp, Arena& arena, Tensor x, Site site) {
  if (tp.size() == 1) return x;
  const Tensor all = arena.alloc("gathered_tokens", x.dtype, {x.dim(0) * tp.size(), x.dim(1)});
  tp.all_gather(x, all, site).wait();
  return all;
}

PartialSum::PartialSum(Stream& s, ProcessGroup& tp, Arena& arena, Tensor result, Into into, Site site)
    : s_(s), tp_(tp), arena_(arena), result_(result), term_(result), into_(into), site_(site) {
  accumulates_ = tp.size() == 1 && into == Into::kAdd;
  if (tp.size() > 1) term_ = arena.alloc("partial_sum", result.dtype, {result.dim(0) * tp.size(), result.dim(1)});
}

void PartialSum::finish() {
  if (tp_.size() == 1) return;
  const ArenaScope scope(arena_);
  const Tensor sum = into_ == Into::kAdd ? arena_.alloc("own_sum", result_.dtype, result_.shape) : result_;
  tp_.reduce_scatter(term_, sum, SumOrder::kOrdered, site_).wait();
  if (into_ == Into::kAdd) add(s_, result_, sum, result_);
}

}  // namespace sluice
