#pragma once

#include <array>

#include "parallel/call_book.h"
#include "parallel/watch/watch_slot.h"

namespace sluice {

/// Writes what the computing thread of a rank does into its slot.
class CallPublisher : public GroupObserver {
 public:
  /// A place that has no name.
  static constexpr uint32_t kNowhere = 0xffffff;

  explicit CallPublisher(WatchSlot& slot) : slot_(slot) {}

  /// Calls in groups that were not added are not published. `first` is the rank of the world that is rank 0 in `group`.
  void add(const ProcessGroup& group, int first);

  void before(const GroupCall& call) override;
  void after(const GroupCall& call) override;
  void before_wait(const GroupCall& call) override;
  void after_wait(const GroupCall& call) override { after(call); }

  void set_place(uint32_t place);
  /// The calls from here on are those of a step, the same on every rank, until end_step().
  void begin_step(int64_t step);
  void end_step() { scheduled_ = 0; }
  void set_deadline_ms(int64_t deadline);
  /// A call threw; because of what rank `accused` of the world sent, unless that is -1.
  void set_failed(int accused);

 private:
  /// The group's number in the slot; WatchSlot::kGroups when it was not added.
  uint32_t number(const ProcessGroup& group) const;
  uint32_t published_kind(const GroupCall& call);
  void moved();

  WatchSlot& slot_;
  CallBook book_;
  std::array<const ProcessGroup*, WatchSlot::kGroups> groups_{};
  uint64_t hash_ = 0;
  uint64_t scheduled_ = 0;  ///< place of the next call in the step's schedule; 0: in none
  uint32_t groups_known_ = 0, place_ = kNowhere;
};

}  // namespace sluice
