#pragma once

#include <string>
#include <vector>

#include "runtime/checkpoint/shard_snapshot.h"
#include "runtime/checkpoint/shard_writer.h"

namespace sluice {

/// Writes a rank's shard from what the tensors hold now, as ShardSnapshot does.
inline Manifest write_shard(const std::string& folder, int rank, int world_size,
                            const std::vector<OwnedElements>& owned) {
  ThreadPool pool(1);
  Stream s{Device::kCpu, Isa::kPortable, &pool};
  Arena staging("staging", MemorySource::kHugePages, int64_t{1} << 30);
  ShardSnapshot snapshot(owned, staging);
  snapshot.take(s);
  return snapshot.write(folder, shard_file_name(rank, world_size)).manifest;
}

}  // namespace sluice
