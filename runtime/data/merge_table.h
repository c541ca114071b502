#pragma once

#include <cstdint>
#include <vector>

#include "runtime/data/tokenizer_spec.h"

namespace sluice {

/// Looks up what two neighbouring ids merge into; a flat hash table.
class MergeTable {
 public:
  static constexpr int32_t kNoMerge = INT32_MAX;
  struct Found {
    int32_t rank = kNoMerge;
    int32_t result = -1;
  };

  /// Of two merges of the same pair the lower rank counts.
  explicit MergeTable(const std::vector<Merge>& merges);
  Found find(int32_t left, int32_t right) const;
  bool empty() const { return empty_; }

 private:
  struct Slot {
    int32_t left = -1, right = -1;
    Found found;
  };
  size_t home(int32_t left, int32_t right) const;

  bool empty_;
  int shift_;
  std::vector<Slot> slots_;
};

/// Merges the ids of a word in place, lowest rank first, leftmost first among equals.
void merge_word(const MergeTable& table, std::vector<int32_t>& ids);

}  // namespace sluice
