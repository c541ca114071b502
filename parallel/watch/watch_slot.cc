#include "parallel/watch/watch_slot.h"

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

std::string text_of(const char* bytes, size_t most) { return std::string(bytes, strnlen(bytes, most)); }

std::string key_of(const WatchSlot::Group& group) {
  return text_of(group.name, WatchSlot::kNameBytes) + "#" + std::to_string(group.first);
}

}  // namespace

RankState read_slot(const WatchSlot& slot, const std::vector<std::string>& places, bool all_calls) {
  RankState state;
  state.set_rank(slot.rank);
  state.set_process(slot.process);
  state.set_host(text_of(slot.host, WatchSlot::kHostBytes));
  state.set_deadline_ms(slot.deadline_ms.load(std::memory_order_relaxed));
  state.set_step(slot.step.load(std::memory_order_relaxed));
  state.set_failed(slot.failed.load(std::memory_order_acquire));
  // A rank that moves on meanwhile shows calls as begun that had not when its counters were read: they are left out.
  state.set_finished(static_cast<int64_t>(slot.finished.load(std::memory_order_acquire)));
  const uint64_t started = slot.started.load(std::memory_order_acquire);
  state.set_started(static_cast<int64_t>(started));
  const size_t groups = std::min<size_t>(slot.groups_known.load(std::memory_order_acquire), WatchSlot::kGroups);
  for (size_t i = 0; i < groups; ++i) {
    WatchedGroup* group = state.add_groups();
    group->set_key(key_of(slot.groups[i]));
    group->set_sequence(static_cast<int64_t>(slot.groups[i].sequence.load(std::memory_order_acquire)));
  }
  const size_t kinds = std::min<size_t>(slot.kinds_known.load(std::memory_order_acquire), WatchSlot::kKinds);
  // The oldest one may be overwritten while it is read.
  const uint64_t most = all_calls ? WatchSlot::kCalls - 1 : 1;
  for (uint64_t i = started - std::min(started, most); i < started; ++i) {
    const WatchSlot::Call& entry = slot.calls[i % WatchSlot::kCalls];
    const uint64_t what = entry.what.load(std::memory_order_relaxed);
    const size_t group = what >> 48, kind = what >> 24 & 0xffffff, place = what & 0xffffff;
    if (group >= groups) continue;
    WatchedCall* call = state.add_calls();
    call->set_index(static_cast<int64_t>(i) + 1);
    call->set_group(key_of(slot.groups[group]));
    call->set_sequence(static_cast<int64_t>(entry.sequence.load(std::memory_order_relaxed)));
    call->set_hash(entry.hash.load(std::memory_order_relaxed));
    call->set_text(kind < kinds ? text_of(slot.kinds[kind], WatchSlot::kTextBytes) : "an unusual call");
    if (place < places.size()) call->set_place(places[place]);
  }
  return state;
}

}  // namespace sluice
