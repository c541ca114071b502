#pragma once

#include "kernels/core/arena.h"
#include "kernels/core/stream.h"
#include "parallel/process_group.h"

namespace sluice {

/// Sequence parallelism [korthikanti2022 section 4.2]: between the products that tensor parallelism splits, each rank
/// of `tp` has its own tokens; rank r the r-th of equal parts.

/// x [tokens / tp, width], this rank's tokens -> [tokens, width], those of all ranks, allocated from `arena`; x itself
/// on one rank. Every rank of tp calls it.
Tensor gather_tokens(ProcessGroup& tp, Arena& arena, Tensor x, Site site = Site::current());

/// A sum over the ranks of tp, each of which computes a term for all tokens, and of what it is added to; every rank
/// keeps the sums of its own tokens.
///   PartialSum sum(...);  write sum.term() or, with sum.accumulates(), add to it;  sum.finish();
class PartialSum {
 public:
  /// base, result [tokens / tp, width]; base may be empty, or alias result. Memory comes from `arena`; on one rank the
  /// term is the result.
  PartialSum(Stream& s, ProcessGroup& tp, Arena& arena, Tensor base, Tensor result, Site site = Site::current());

  /// [tokens, width]
  Tensor term() const { return term_; }
  /// Whether the term holds something already, that the caller must add to.
  bool accumulates() const { return base_ && tp_.size() == 1; }
  /// Every rank of tp calls it.
  void finish();

 private:
  Stream& s_;
  ProcessGroup& tp_;
  Arena& arena_;
  Tensor base_, result_, term_;
  Site site_;
};

}  // namespace sluice
