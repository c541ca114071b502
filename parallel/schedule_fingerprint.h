#pragma once

#include <string>
#include <vector>

#include "parallel/call_book.h"

namespace sluice {

/// Whether all ranks make the same calls: each keeps a hash of (group, operation, count rule, dtype, call site), and
/// they compare it once a step. Counts that depend on the data, those of all_to_all, are not part of it.
class ScheduleFingerprint : public GroupObserver {
 public:
  /// places  names for at()
  explicit ScheduleFingerprint(std::vector<std::string> places = {}) : places_(std::move(places)) {
    calls_.reserve(4096);
  }

  /// The calls from here on are made in a place; in one without a name, when there is none of this number.
  void at(uint32_t place) { place_ = place; }

  void before(const GroupCall& call) override;
  void after(const GroupCall&) override {}

  /// Forgets the calls so far.
  void reset() {
    calls_.clear();
    hash_ = 0;
  }

  /// Compares the calls since the last reset() on all ranks. Every rank of `world` calls it; what it calls
  /// itself must not be observed. When they differ every rank throws AgreedError (Fault::kHang); the message names the
  /// ranks that are fewer, their first call that differs with its place, and what the others called instead.
  void compare(ProcessGroup& world) const;

 private:
  struct Made {
    uint32_t kind, place;
  };
  std::string text(const Made& call) const;

  CallBook book_;
  const std::vector<std::string> places_;
  uint32_t place_ = UINT32_MAX;
  std::vector<Made> calls_;
  uint64_t hash_ = 0;
};

}  // namespace sluice
