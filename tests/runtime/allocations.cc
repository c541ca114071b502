#include "tests/runtime/allocations.h"

#include <cstdlib>
#include <new>

namespace {

thread_local int64_t allocations = 0;

void* allocate_or_null(std::size_t bytes) noexcept {
  ++allocations;
  return std::malloc(bytes);
}

void* allocate(std::size_t bytes) {
  if (void* p = allocate_or_null(bytes)) return p;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate_or_null(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return allocate_or_null(bytes); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace sluice {

int64_t allocations_of_this_thread() { return allocations; }

}  // namespace sluice
