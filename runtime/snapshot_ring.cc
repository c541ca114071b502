#include "runtime/snapshot_ring.h"

#include "kernels/core/error.h"
#include "kernels/elementwise.h"

namespace sluice {

SnapshotRing::SnapshotRing(const Optimizer& optimizer, int64_t snapshots, MemorySource source)
    : memory_("snapshots", source, physical_memory_bytes()) {
  for (const Optimizer::Own& own : optimizer.own()) own_.insert(own_.end(), {own.weights, own.m, own.v});
  for (const Tensor& t : own_) bytes_ += t.bytes();
  for (int64_t i = 0; i < snapshots; ++i) {
    free_.push_back(slots_.size());
    std::vector<Tensor>& slot = slots_.emplace_back();
    for (const Tensor& t : own_) slot.push_back(memory_.alloc("snapshot", t.dtype, t.shape));
  }
}

void SnapshotRing::take(Stream& s, const SavedPosition& position) {
  INVARIANT(kept_.empty() || kept_.back().position.step < position.step, "a snapshot of step ", position.step,
            " comes after that of step ", kept_.back().position.step);
  if (free_.empty()) {
    free_.push_back(kept_.front().slot);
    kept_.pop_front();
  }
  const size_t slot = free_.back();
  free_.pop_back();
  for (size_t i = 0; i < own_.size(); ++i) cast(s, own_[i], slots_[slot][i]);
  kept_.push_back({position, slot});
}

void SnapshotRing::forget_after(int64_t step) {
  while (!kept_.empty() && kept_.back().position.step > step) {
    free_.push_back(kept_.back().slot);
    kept_.pop_back();
  }
}

const SavedPosition& SnapshotRing::restore(Stream& s, int64_t step) {
  forget_after(step);
  INVARIANT(!kept_.empty() && kept_.back().position.step == step, "there is no snapshot of step ", step);
  const Snapshot& snapshot = kept_.back();
  for (size_t i = 0; i < own_.size(); ++i) cast(s, slots_[snapshot.slot][i], own_[i]);
  return snapshot.position;
}

std::vector<int64_t> SnapshotRing::steps() const {
  std::vector<int64_t> steps;
  for (const Snapshot& snapshot : kept_) steps.push_back(snapshot.position.step);
  return steps;
}

}  // namespace sluice
