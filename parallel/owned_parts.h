#pragma once

#include <vector>

#include "parallel/flat_layout.h"

namespace sluice {

/// The part of a bucket that this rank alone counts, updates and writes: its share among the ranks that hold copies.
struct OwnedPart {
  int64_t flat_begin = 0;  ///< elements, in the flat buffers
  int64_t count = 0;
  int64_t shard_begin = 0;  ///< where it lies in a buffer that holds owned parts only
};

/// Those of `rank`: one for every bucket of the layout, in its order.
std::vector<OwnedPart> owned_parts(const FlatLayout& layout, const MeshShape& mesh, int rank);

/// Elements of a buffer that holds them all.
int64_t shard_count(const std::vector<OwnedPart>& parts);

}  // namespace sluice
