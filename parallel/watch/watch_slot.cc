#include "parallel/watch/watch_slot.h"

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

std::string text_of(const char* bytes, size_t most) { return std::string(bytes, strnlen(bytes, most)); }

std::string key_of(const WatchSlot::Group& group) {
  return text_of(group.name, WatchSlot::kNameBytes) + "#" + std::to_string(group.first);
}

/// Call `index` of the rank, counted from 0; false when it is not known.
bool read_call(const WatchSlot& slot, uint64_t index, const std::vector<std::string>& places, WatchedCall& call) {
  const size_t groups = std::min<size_t>(slot.groups_known.load(std::memory_order_acquire), WatchSlot::kGroups);
  const size_t kinds = std::min<size_t>(slot.kinds_known.load(std::memory_order_acquire), WatchSlot::kKinds);
  const WatchSlot::Call& entry = slot.calls[index % WatchSlot::kCalls];
  const uint64_t what = entry.what.load(std::memory_order_acquire);
  const size_t group = what >> 48, kind = what >> 24 & 0xffffff, place = what & 0xffffff;
  if (group >= groups) return false;
  call.set_step(entry.step.load(std::memory_order_acquire));
  call.set_scheduled(static_cast<int64_t>(entry.scheduled.load(std::memory_order_acquire)));
  call.set_group(key_of(slot.groups[group]));
  call.set_sequence(static_cast<int64_t>(entry.sequence.load(std::memory_order_acquire)));
  call.set_hash(entry.hash.load(std::memory_order_acquire));
  call.set_text(kind < kinds ? text_of(slot.kinds[kind], WatchSlot::kTextBytes) : "an unusual call");
  if (place < places.size()) call.set_place(places[place]);
  return true;
}

}  // namespace

RankState read_slot(const WatchSlot& slot, const std::vector<std::string>& places, uint64_t most_calls) {
  RankState state;
  state.set_rank(slot.rank);
  state.set_process(slot.process);
  state.set_host(text_of(slot.host, WatchSlot::kHostBytes));
  state.set_deadline_ms(slot.deadline_ms.load(std::memory_order_relaxed));
  state.set_step(slot.step.load(std::memory_order_relaxed));
  state.set_silence_deadline_ms(slot.silence_deadline_ms);
  if (const int32_t accused = slot.accused.load(std::memory_order_acquire)) state.set_accused(accused - 1);
  state.set_failed(slot.failed.load(std::memory_order_acquire));
  // A rank that moves on meanwhile shows calls as begun that had not when its counters were read: they are left out.
  const uint64_t awaited = slot.awaited.load(std::memory_order_acquire);
  const uint64_t started = slot.started.load(std::memory_order_acquire);
  state.set_started(static_cast<int64_t>(started));
  const size_t groups = std::min<size_t>(slot.groups_known.load(std::memory_order_acquire), WatchSlot::kGroups);
  for (size_t i = 0; i < groups; ++i) {
    WatchedGroup* group = state.add_groups();
    group->set_key(key_of(slot.groups[i]));
    group->set_sequence(static_cast<int64_t>(slot.groups[i].sequence.load(std::memory_order_acquire)));
  }
  const uint64_t most = std::min<uint64_t>(most_calls, WatchSlot::kCalls - 1);
  for (uint64_t i = started - std::min(started, most); i < started; ++i) {
    if (!read_call(slot, i, places, *state.add_calls())) state.mutable_calls()->RemoveLast();
  }
  if (awaited > 0 && !read_call(slot, awaited - 1, places, *state.mutable_awaited())) state.clear_awaited();
  // Those that have been overwritten while they were read.
  const uint64_t later = slot.started.load(std::memory_order_relaxed);
  const uint64_t first = started - std::min(started, most), valid = later - std::min(later, WatchSlot::kCalls - 1);
  if (valid > first) {
    const int torn = static_cast<int>(std::min<uint64_t>(valid - first, static_cast<uint64_t>(state.calls_size())));
    state.mutable_calls()->DeleteSubrange(0, torn);
  }
  return state;
}

}  // namespace sluice
