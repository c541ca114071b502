#pragma once

#include <string>
#include <vector>

#include "configs/manifest.pb.h"
#include "kernels/core/tensor.h"
#include "parallel/parameter_record.h"

namespace sluice {

/// Elements of a parameter that a rank writes: [begin, end) of what it holds of it, with their moments.
struct OwnedElements {
  const ParameterRecord* record = nullptr;
  int64_t begin = 0, end = 0;
  Tensor master, m, v;  ///< [end - begin] f32 | f64
};

/// Writes this rank's shard into `folder`. Over all ranks, every element must be written once. Returns a manifest that
/// holds its shard and pieces only. Throws Error when the file cannot be written; then no shard appears.
Manifest write_shard(const std::string& folder, int rank, int world_size, const std::vector<OwnedElements>& owned);

}  // namespace sluice
