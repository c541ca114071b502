#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "parallel/process_group.h"

namespace sluice {

/// What distinguishes one kind of call from another, on whatever rank: group, operation, how much of which dtype, and
/// the place in the source. Counts that depend on the data, those of all_to_all, are left out.
struct CallKind {
  std::string text;   ///< "tp.all_gather of 4096 f32 at token_parallel.cc:31"
  uint64_t hash = 0;  ///< of the text: the same on every rank
};

/// The kinds of calls that a rank has made, numbered in the order of their first use.
class CallBook {
 public:
  CallBook();

  /// The number of the call's kind. Allocates only for a new one.
  uint32_t number(const GroupCall& call);
  const CallKind& kind(uint32_t number) const { return kinds_[number]; }
  uint32_t size() const { return static_cast<uint32_t>(kinds_.size()); }

 private:
  /// What a process tells its kinds apart by without making a text.
  struct Key {
    const ProcessGroup* group;
    const char* operation;
    const char* file;
    int64_t line, count, dtype;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };

  std::unordered_map<Key, uint32_t, KeyHash> numbers_;
  std::vector<CallKind> kinds_;
};

/// The hash of a sequence that is continued by one more item.
uint64_t rolled(uint64_t hash, uint64_t item);

}  // namespace sluice
