#pragma once

#include <cstdint>
#include <string>
#include <string_view>

struct XXH3_state_s;

namespace sluice {

/// XXH3, 64 bits, of bytes that come piece by piece.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();
  Xxh3(const Xxh3&) = delete;
  Xxh3& operator=(const Xxh3&) = delete;

  void add(const void* data, size_t bytes);
  uint64_t digest() const;

 private:
  XXH3_state_s* state_;
};

/// XXH3 of one block.
uint64_t xxh3(std::string_view bytes);

/// 16 hexadecimal digits.
std::string hex16(uint64_t value);

}  // namespace sluice
