#pragma once

#include <string>
#include <vector>

#include "parallel/process_group.h"

namespace sluice {

/// Whether all ranks make the same calls: each keeps a hash of (group, operation, count rule, dtype, call site), and
/// they compare it once a step. Counts that depend on the data, those of all_to_all, are not part of it.
class ScheduleFingerprint : public GroupObserver {
 public:
  ScheduleFingerprint() { calls_.reserve(4096); }

  void before(const GroupCall& call) override;
  void after(const GroupCall&) override {}

  /// Forgets the calls so far.
  void reset() { calls_.clear(); }

  /// Compares the calls since the last reset() on all ranks. Every rank of `world`, which must not be observed
  /// meanwhile, calls it. When they differ every rank throws AgreedError (Fault::kHang); the message names the ranks
  /// that are fewer, their first call that differs and what the others called instead.
  void compare(ProcessGroup& world) const;

 private:
  struct Call {
    const ProcessGroup* group;
    const char* operation;
    int64_t count;  ///< -1: depends on the data
    DType dtype;
    const char* file;
    uint32_t line;
  };
  static std::string text(const Call& call);
  int64_t hash() const;

  std::vector<Call> calls_;
};

}  // namespace sluice
