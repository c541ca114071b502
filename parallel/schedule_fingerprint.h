#pragma once

#include <string>
#include <vector>

#include "parallel/call_book.h"

namespace sluice {

/// Whether all ranks make the same calls: each keeps a hash of (group, operation, count rule, dtype, call site), and
/// they compare it once a step. Counts that depend on the data, those of all_to_all, are not part of it.
class ScheduleFingerprint : public GroupObserver {
 public:
  ScheduleFingerprint() { calls_.reserve(4096); }

  void before(const GroupCall& call) override;
  void after(const GroupCall&) override {}

  /// Forgets the calls so far.
  void reset() {
    calls_.clear();
    hash_ = 0;
  }

  /// Compares the calls since the last reset() on all ranks. Every rank of `world` calls it; what it calls
  /// itself must not be observed. When they differ every rank throws AgreedError (Fault::kHang); the message names the
  /// ranks that are fewer, their first call that differs and what the others called instead.
  void compare(ProcessGroup& world) const;

 private:
  CallBook book_;
  std::vector<uint32_t> calls_;  ///< their kinds
  uint64_t hash_ = 0;
};

}  // namespace sluice
