#include "parallel/owned_parts.h"

namespace sluice {

std::vector<OwnedPart> owned_parts(const FlatLayout& layout, const MeshShape& mesh, int rank) {
  std::vector<OwnedPart> parts;
  int64_t shard = 0;
  for (const Bucket& bucket : layout.buckets()) {
    const int64_t count = bucket.count / mesh.replicas(bucket.replicas);
    parts.push_back({bucket.begin + mesh.replica(bucket.replicas, rank) * count, count, shard});
    shard += count;
  }
  return parts;
}

int64_t shard_count(const std::vector<OwnedPart>& parts) {
  return parts.empty() ? 0 : parts.back().shard_begin + parts.back().count;
}

}  // namespace sluice
