#pragma once

#include "parallel/process_group.h"

namespace sluice {

/// Sums gradients over the ranks that computed other samples, bucket by bucket.
class GradientReducer {
 public:
  static constexpr int64_t kBucketBytes = int64_t{2} << 20;

  /// gradients [n] f32 | f64, this rank's flat buffer; it must outlive the reducer.
  GradientReducer(ProcessGroup& dp, Tensor gradients, int64_t bucket_bytes = kBucketBytes);

  /// Every rank gets the ordered sum over ranks, in place. Every rank calls it.
  void reduce();

 private:
  ProcessGroup& dp_;
  Tensor gradients_;
  int64_t bucket_;  // elements
};

}  // namespace sluice
