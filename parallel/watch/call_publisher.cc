#include "parallel/watch/call_publisher.h"

#include <algorithm>
#include <cstring>

namespace sluice {
namespace {

void copy_text(const std::string& from, char* to, size_t bytes) {
  const size_t length = std::min(from.size(), bytes - 1);
  std::memcpy(to, from.data(), length);
  to[length] = 0;
}

}  // namespace

void CallPublisher::add(const ProcessGroup& group, int first) {
  INVARIANT(groups_known_ < WatchSlot::kGroups, "more than ", WatchSlot::kGroups, " groups to watch");
  WatchSlot::Group& entry = slot_.groups[groups_known_];
  copy_text(group.name(), entry.name, WatchSlot::kNameBytes);
  entry.first = first;
  groups_[groups_known_++] = &group;
  slot_.groups_known.store(groups_known_, std::memory_order_release);
}

uint32_t CallPublisher::number(const ProcessGroup& group) const {
  const auto end = groups_.begin() + groups_known_;
  const auto at = std::find(groups_.begin(), end, &group);
  return at == end ? WatchSlot::kGroups : static_cast<uint32_t>(at - groups_.begin());
}

uint32_t CallPublisher::published_kind(const GroupCall& call) {
  const uint32_t before = book_.size(), kind = book_.number(call);
  if (book_.size() > before && kind < WatchSlot::kKinds) {
    copy_text(book_.kind(kind).text, slot_.kinds[kind], WatchSlot::kTextBytes);
    slot_.kinds_known.store(kind + 1, std::memory_order_release);
  }
  return kind;
}

void CallPublisher::before(const GroupCall& call) {
  const uint32_t group = number(call.group);
  if (group == WatchSlot::kGroups || call.group.size() == 1) return;
  const uint32_t kind = published_kind(call);
  hash_ = rolled(hash_, book_.kind(kind).hash);
  const uint64_t sequence = static_cast<uint64_t>(call.number);
  const uint64_t index = slot_.started.load(std::memory_order_relaxed);
  WatchSlot::Call& entry = slot_.calls[index % WatchSlot::kCalls];
  entry.what.store(WatchSlot::packed(group, std::min(kind, 0xffffffu), place_), std::memory_order_relaxed);
  entry.sequence.store(sequence, std::memory_order_relaxed);
  entry.hash.store(hash_, std::memory_order_relaxed);
  entry.scheduled.store(scheduled_, std::memory_order_relaxed);
  entry.step.store(slot_.step.load(std::memory_order_relaxed), std::memory_order_relaxed);
  if (scheduled_ > 0) ++scheduled_;
  slot_.groups[group].sequence.store(sequence, std::memory_order_release);
  slot_.started.store(index + 1, std::memory_order_release);
  slot_.awaited.store(index + 1, std::memory_order_release);
  moved();
}

void CallPublisher::after(const GroupCall& call) {
  if (number(call.group) == WatchSlot::kGroups || call.group.size() == 1) return;
  slot_.awaited.store(0, std::memory_order_release);
  moved();
}

void CallPublisher::before_wait(const GroupCall& call) {
  const uint32_t group = number(call.group);
  if (group == WatchSlot::kGroups || call.group.size() == 1) return;
  // Few calls have been started since.
  const uint64_t started = slot_.started.load(std::memory_order_relaxed);
  for (uint64_t index = started; index > 0 && index + WatchSlot::kCalls > started + 1; --index) {
    const WatchSlot::Call& entry = slot_.calls[(index - 1) % WatchSlot::kCalls];
    if (entry.what.load(std::memory_order_relaxed) >> 48 != group ||
        entry.sequence.load(std::memory_order_relaxed) != static_cast<uint64_t>(call.number)) {
      continue;
    }
    slot_.awaited.store(index, std::memory_order_release);
    break;
  }
  moved();
}

void CallPublisher::set_place(uint32_t place) {
  place_ = place;
  moved();
}

void CallPublisher::begin_step(int64_t step) {
  hash_ = 0;
  scheduled_ = 1;
  slot_.step.store(step, std::memory_order_relaxed);
  moved();
}

void CallPublisher::set_deadline_ms(int64_t deadline) {
  slot_.deadline_ms.store(deadline, std::memory_order_relaxed);
  moved();
}

void CallPublisher::set_failed(int accused) {
  slot_.accused.store(accused + 1, std::memory_order_release);
  slot_.failed.store(true, std::memory_order_release);
}

void CallPublisher::moved() {
  slot_.progress.store(slot_.progress.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

}  // namespace sluice
