#pragma once

#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "kernels/core/tensor.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// What one rank keeps of its parameters: elements [flat_begin, flat_begin + count) of flat buffers [flat_count], f32
/// or f64, of weights and both moments.
struct OptimizerState {
  Tensor master, m, v;
};

/// The part of every parameter that a rank writes: elements [begin, end) of what it holds of it.
struct OwnedRange {
  int64_t begin = 0, end = 0;
};

/// Part `writer` of `writers` of a parameter that all of them hold, so that each element is written once and shards
/// have nearly the same size.
OwnedRange owned_range(const ParameterRecord& record, int writer, int writers);

/// Writes this rank's shard into `folder`: MASTER, M and V of its part of every parameter. Returns a manifest that
/// holds its shard and pieces only. Throws Error when the file cannot be written; then no shard appears.
Manifest write_shard(const std::string& folder, int rank, int world_size, const std::vector<ParameterRecord>& records,
                     const OptimizerState& state);

}  // namespace sluice
