#include "runtime/data/merge_table.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <tuple>

namespace sluice {
namespace {

// Above it the quadratic loop costs more than a heap.
constexpr size_t kShortWord = 48;

void merge_short(const MergeTable& table, std::vector<int32_t>& ids) {
  MergeTable::Found pairs[kShortWord];
  size_t n = ids.size();
  for (size_t i = 0; i + 1 < n; ++i) pairs[i] = table.find(ids[i], ids[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == MergeTable::kNoMerge) break;
    ids[best] = pairs[best].result;
    std::copy(ids.begin() + static_cast<ptrdiff_t>(best) + 2, ids.begin() + static_cast<ptrdiff_t>(n),
              ids.begin() + static_cast<ptrdiff_t>(best) + 1);
    std::copy(pairs + best + 2, pairs + n, pairs + best + 1);
    --n;
    if (best > 0) pairs[best - 1] = table.find(ids[best - 1], ids[best]);
    if (best + 1 < n) pairs[best] = table.find(ids[best], ids[best + 1]);
  }
  ids.resize(n);
}

// Symbols in a doubly linked list, candidate merges in a heap; those that went stale are skipped when popped.
class LongWord {
 public:
  LongWord(const MergeTable& table, const std::vector<int32_t>& ids) : table_(table), ids_(ids) {
    const auto n = static_cast<int64_t>(ids.size());
    for (int64_t i = 0; i < n; ++i) {
      before_.push_back(i - 1);
      after_.push_back(i + 1 < n ? i + 1 : -1);
    }
    for (int64_t i = 0; i + 1 < n; ++i) push(i);
  }

  void merge(std::vector<int32_t>& out) {
    while (!heap_.empty()) {
      const Candidate c = heap_.top();
      heap_.pop();
      const int64_t next = after_[c.at];
      if (ids_[c.at] == c.left && next >= 0 && ids_[next] == c.right) join(c.at, next, c.result);
    }
    out.clear();
    for (int64_t i = 0; i >= 0; i = after_[i]) out.push_back(ids_[i]);
  }

 private:
  struct Candidate {
    int32_t rank;
    int64_t at;
    int32_t left, right, result;
    bool operator<(const Candidate& o) const { return std::tie(rank, at) > std::tie(o.rank, o.at); }
  };

  void push(int64_t i) {
    const int64_t next = after_[i];
    const MergeTable::Found found = table_.find(ids_[i], ids_[next]);
    if (found.rank != MergeTable::kNoMerge) heap_.push({found.rank, i, ids_[i], ids_[next], found.result});
  }

  void join(int64_t i, int64_t next, int32_t result) {
    ids_[i] = result;
    ids_[next] = -1;
    after_[i] = after_[next];
    if (after_[i] >= 0) {
      before_[after_[i]] = i;
      push(i);
    }
    if (before_[i] >= 0) push(before_[i]);
  }

  const MergeTable& table_;
  std::vector<int32_t> ids_;
  std::vector<int64_t> before_, after_;
  std::priority_queue<Candidate> heap_;
};

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges) : empty_(merges.empty()) {
  const size_t slots = std::bit_ceil(2 * merges.size() + 2);
  shift_ = 64 - std::countr_zero(slots);
  slots_.resize(slots);
  for (const Merge& m : merges) {
    size_t i = home(m.left, m.right);
    while (slots_[i].left >= 0 && (slots_[i].left != m.left || slots_[i].right != m.right)) i = (i + 1) % slots;
    if (m.rank < slots_[i].found.rank) slots_[i] = {m.left, m.right, {m.rank, m.result}};
  }
}

size_t MergeTable::home(int32_t left, int32_t right) const {
  const uint64_t key = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  return static_cast<size_t>((key ^ key >> 29) * 0x9E3779B97F4A7C15u >> shift_);
}

MergeTable::Found MergeTable::find(int32_t left, int32_t right) const {
  for (size_t i = home(left, right);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.left == left && slot.right == right) return slot.found;
    if (slot.left < 0) return {};
  }
}

void merge_word(const MergeTable& table, std::vector<int32_t>& ids) {
  if (table.empty() || ids.size() < 2) return;
  if (ids.size() <= kShortWord) {
    merge_short(table, ids);
  } else {
    LongWord(table, ids).merge(ids);
  }
}

}  // namespace sluice
