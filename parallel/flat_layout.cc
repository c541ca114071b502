#include "parallel/flat_layout.h"

#include <algorithm>

namespace sluice {
namespace {

// Parameters start, and the parts of a bucket's owners end, at whole cache lines of f32.
constexpr int64_t kAlignment = 16;

int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

FlatLayout::FlatLayout(std::vector<ParameterRecord>& records, const MeshShape& shape) {
  int stages = 0;
  for (const ParameterRecord& r : records) stages = std::max(stages, r.stage + 1);
  int64_t at = 0, added_to = 0;
  for (int stage = 0; stage < stages; ++stage) {
    stage_begins_.push_back(at);
    for (int kind = 0; kind < kReplicaKinds; ++kind) {
      Bucket bucket{stage, static_cast<Replicas>(kind), at, 0};
      for (ParameterRecord& r : records) {
        if (r.stage != stage || r.replicas != bucket.replicas) continue;
        r.flat_begin = at;
        if (r.gradient_is_written) {
          add_range(stage, added_to, at);
          added_to = at + r.count;
        }
        at += rounded_up(r.count, kAlignment);
      }
      if (at == bucket.begin) continue;
      bucket.count = rounded_up(at - bucket.begin, kAlignment * shape.replicas(bucket.replicas));
      at = bucket.begin + bucket.count;
      buckets_.push_back(bucket);
    }
    add_range(stage, added_to, at);
    added_to = at;
  }
  stage_begins_.push_back(at);
}

void FlatLayout::add_range(int stage, int64_t begin, int64_t end) {
  if (begin < end) added_to_.push_back({stage, begin, end - begin});
}

}  // namespace sluice
