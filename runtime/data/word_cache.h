#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// Remembers the ids of words already merged. Bounded: when full it starts anew.
class WordCache {
 public:
  WordCache();

  /// The ids of `word`, or an empty span if it is not known. Valid until insert(). `hash` is hash_of(word).
  std::span<const int32_t> find(std::string_view word, uint64_t hash) const;
  void insert(std::string_view word, uint64_t hash, std::span<const int32_t> ids);
  static uint64_t hash_of(std::string_view word);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t text = 0, ids = 0;              // where they begin
    uint16_t text_bytes = 0, ids_count = 0;  // no ids: a free slot
  };

  std::vector<Slot> slots_;
  std::string text_;
  std::vector<int32_t> ids_;
  size_t used_ = 0;
};

}  // namespace sluice
