#include "runtime/files/xxh3.h"

#include <new>

#include <xxhash.h>

namespace sluice {

Xxh3::Xxh3() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_64bits_reset(state_);
}

Xxh3::~Xxh3() { XXH3_freeState(state_); }

void Xxh3::add(const void* data, size_t bytes) { XXH3_64bits_update(state_, data, bytes); }

uint64_t Xxh3::digest() const { return XXH3_64bits_digest(state_); }

uint64_t xxh3(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::string hex16(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

}  // namespace sluice
