#include "runtime/data/word_cache.h"

#include <algorithm>

#include <xxhash.h>

namespace sluice {
namespace {

constexpr size_t kSlots = size_t{1} << 17;
constexpr size_t kLongestWord = 64;

}  // namespace

WordCache::WordCache() : slots_(kSlots) {}

uint64_t WordCache::hash_of(std::string_view word) { return XXH3_64bits(word.data(), word.size()); }

std::span<const int32_t> WordCache::find(std::string_view word, uint64_t hash) const {
  for (size_t i = hash % kSlots;; i = (i + 1) % kSlots) {
    const Slot& slot = slots_[i];
    if (slot.ids_count == 0) return {};
    if (slot.hash == hash && word == std::string_view(text_).substr(slot.text, slot.text_bytes)) {
      return std::span(ids_).subspan(slot.ids, slot.ids_count);
    }
  }
}

void WordCache::insert(std::string_view word, uint64_t hash, std::span<const int32_t> ids) {
  if (word.size() > kLongestWord || ids.empty()) return;
  if (used_ == kSlots / 2) {
    std::fill(slots_.begin(), slots_.end(), Slot());
    text_.clear();
    ids_.clear();
    used_ = 0;
  }
  size_t i = hash % kSlots;
  while (slots_[i].ids_count != 0) i = (i + 1) % kSlots;
  slots_[i] = {hash, static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(ids_.size()),
               static_cast<uint16_t>(word.size()), static_cast<uint16_t>(ids.size())};
  text_ += word;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

}  // namespace sluice
