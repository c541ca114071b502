#include "kernels/core/arena.h"

#include <algorithm>
#include <cstring>
#include <sys/mman.h>

namespace sluice {

Arena::Arena(std::string name, MemorySource source, int64_t capacity_bytes)
    : name_(std::move(name)), source_(source), capacity_bytes_(capacity_bytes), high_water_name_() {
  INVARIANT(capacity_bytes >= 0, "arena ", name_, ": capacity ", capacity_bytes);
  if (source_ == MemorySource::kNone || capacity_bytes_ == 0) return;
  constexpr int64_t kHugePageBytes = int64_t{2} << 20;
  const int64_t mapped = (capacity_bytes_ + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  base_ = mmap(nullptr, static_cast<size_t>(mapped), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ENSURE(base_ != MAP_FAILED, "arena ", name_, ": cannot map ", mapped, " bytes");
  capacity_bytes_ = mapped;
  madvise(base_, static_cast<size_t>(mapped), MADV_HUGEPAGE);
}

Arena::~Arena() {
  if (base_) munmap(base_, static_cast<size_t>(capacity_bytes_));
}

Tensor Arena::alloc(std::string_view name, DType dtype, Shape shape) {
  const int64_t bytes = shape.count() * dtype_bytes(dtype);
  INVARIANT(bytes >= 0, "arena ", name_, ": ", name, " has shape ", to_string(shape));
  const int64_t padded = (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  ENSURE(source_ == MemorySource::kNone || used_bytes_ + padded <= capacity_bytes_, "arena ", name_, ": ", name,
         " needs ", padded, " bytes, ", capacity_bytes_ - used_bytes_, " of ", capacity_bytes_, " are left");
  void* data = base_ ? static_cast<char*>(base_) + used_bytes_ : nullptr;
  used_bytes_ += padded;
  if (used_bytes_ > high_water_bytes_) {
    high_water_bytes_ = used_bytes_;
    high_water_name_ = name;
  }
#if !defined(NDEBUG)
  // All-ones is a NaN in every float type: a read before the first write shows.
  if (data) std::memset(data, 0xff, static_cast<size_t>(bytes));
#endif
  return {data, dtype, Device::kCpu, shape};
}

void Arena::release(int64_t mark) {
  INVARIANT(mark >= 0 && mark <= used_bytes_, "arena ", name_, ": release to ", mark, " of ", used_bytes_);
#if !defined(NDEBUG)
  if (base_) std::memset(static_cast<char*>(base_) + mark, 0xff, static_cast<size_t>(used_bytes_ - mark));
#endif
  used_bytes_ = mark;
}

}  // namespace sluice
