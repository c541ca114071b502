#pragma once

#include <deque>
#include <vector>

#include "kernels/core/arena.h"
#include "runtime/save.h"

namespace sluice {

/// Copies in memory of what a rank updates, as it was after some of the last steps: a ring, whose oldest copy makes
/// room for the newest.
class SnapshotRing {
 public:
  /// Reserves memory for `snapshots` copies. The optimizer's tensors must outlive the ring.
  SnapshotRing(const Optimizer& optimizer, int64_t snapshots, MemorySource source = MemorySource::kPages);

  /// Copies all as it is after a position's step, which must be later than those kept.
  void take(Stream& s, const SavedPosition& position);
  /// Puts back what a kept step had, and forgets the later ones. Returns its position.
  const SavedPosition& restore(Stream& s, int64_t step);
  /// Forgets those after `step`.
  void forget_after(int64_t step);

  /// Of what is kept, ascending.
  std::vector<int64_t> steps() const;
  /// Of one copy.
  int64_t bytes() const { return bytes_; }
  const Arena& memory() const { return memory_; }

 private:
  struct Snapshot {
    SavedPosition position;
    size_t slot;
  };

  std::vector<Tensor> own_;  // what is copied
  Arena memory_;
  std::vector<std::vector<Tensor>> slots_;  // copies, each in the order of own_
  std::vector<size_t> free_;                // of the slots
  std::deque<Snapshot> kept_;               // ascending
  int64_t bytes_ = 0;
};

}  // namespace sluice
