#pragma once

#include <vector>

#include "parallel/parameter_record.h"

namespace sluice {

/// Parameters of one stage that the same ranks hold: a contiguous part of the flat buffers, reduced and shared at once.
/// Its elements divide evenly among those ranks.
struct Bucket {
  int stage = 0;
  Replicas replicas = Replicas::kDp;
  int64_t begin = 0;  ///< elements, in the flat buffer
  int64_t count = 0;  ///< padding included
};

/// A part of a stage in the flat buffers.
struct FlatRange {
  int stage = 0;
  int64_t begin = 0;  ///< elements, in the flat buffer
  int64_t count = 0;
};

/// Where everything lies in a rank's flat buffers: stages in forward order, in each a bucket a kind of replicas.
class FlatLayout {
 public:
  /// Gives every record its flat_begin. Records of a stage need not lie together.
  FlatLayout(std::vector<ParameterRecord>& records, const MeshShape& shape);

  const std::vector<Bucket>& buckets() const { return buckets_; }
  /// All but the gradients that the first micro-step writes: what must be zero before it adds.
  const std::vector<FlatRange>& added_to() const { return added_to_; }
  int stages() const { return static_cast<int>(stage_begins_.size()) - 1; }
  int64_t stage_begin(int stage) const { return stage_begins_[static_cast<size_t>(stage)]; }
  int64_t stage_end(int stage) const { return stage_begins_[static_cast<size_t>(stage) + 1]; }
  /// Elements of a flat buffer.
  int64_t count() const { return stage_begins_.back(); }

 private:
  void add_range(int stage, int64_t begin, int64_t end);

  std::vector<Bucket> buckets_;
  std::vector<FlatRange> added_to_;
  std::vector<int64_t> stage_begins_;
};

}  // namespace sluice
