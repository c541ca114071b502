#include "kernels/core/arena.h"

#include <algorithm>
#include <cstring>
#include <sys/mman.h>
#include <sys/resource.h>

namespace sluice {
namespace {

constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int64_t kSmallestReserveBytes = int64_t{16} << 20;

int64_t to_huge_pages(int64_t bytes) { return (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes; }

/// Address space whose pages are taken when touched; null when there is none.
void* map(int64_t bytes, int protection) {
  void* base =
      mmap(nullptr, static_cast<size_t>(bytes), protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return base == MAP_FAILED ? nullptr : base;
}

/// For messages: what may be the reason that there is not more.
std::string address_space_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
  return concat("; the address space of the process is limited to ", limit.rlim_cur, " bytes (ulimit -v)");
}

}  // namespace

Arena::Arena(std::string name, MemorySource source, int64_t capacity_bytes)
    : name_(std::move(name)), source_(source), capacity_bytes_(capacity_bytes), high_water_name_() {
  INVARIANT(capacity_bytes >= 0, "arena ", name_, ": capacity ", capacity_bytes);
  if (capacity_bytes_ == 0) return;
  const int protection = source_ == MemorySource::kNone ? PROT_NONE : PROT_READ | PROT_WRITE;
  int64_t bytes = to_huge_pages(capacity_bytes_);
  base_ = map(bytes, protection);
  // The capacity may be a guess above what the system lets the process reserve.
  while (!base_ && bytes / 2 >= kSmallestReserveBytes) {
    bytes = to_huge_pages(bytes / 2);
    base_ = map(bytes, protection);
  }
  ENSURE(base_, "arena ", name_, ": cannot reserve ", bytes, " bytes", address_space_limit());
  capacity_bytes_ = bytes;
  if (source_ == MemorySource::kHugePages) madvise(base_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
}

Arena::~Arena() {
  if (base_) munmap(base_, static_cast<size_t>(capacity_bytes_));
}

Tensor Arena::alloc(std::string_view name, DType dtype, Shape shape) {
  const int64_t bytes = shape.count() * dtype_bytes(dtype);
  INVARIANT(bytes >= 0, "arena ", name_, ": ", name, " has shape ", to_string(shape));
  const int64_t padded = (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  if (source_ == MemorySource::kNone) return count(name, padded, dtype, shape);
  ENSURE(used_bytes_ + padded <= capacity_bytes_, "arena ", name_, ": ", name, " needs ", padded, " bytes, ",
         capacity_bytes_ - used_bytes_, " of ", capacity_bytes_, " are left", address_space_limit());
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

Tensor Arena::count(std::string_view name, int64_t padded, DType dtype, Shape shape) {
  const int64_t at = used_bytes_;
  used_bytes_ += padded;
  counted_.push_back({std::string(name), padded});
  if (used_bytes_ > high_water_bytes_) {
    high_water_bytes_ = used_bytes_;
    high_water_name_ = name;
    peak_is_now_ = true;
  }
  if (is_float(dtype)) return {static_cast<char*>(base_) + at, dtype, Device::kNone, shape};
  // Pages that nobody looks at are never taken.
  integers_.emplace_back(at, std::calloc(static_cast<size_t>(padded) + 1, 1));
  ENSURE(integers_.back().second, "arena ", name_, ": ", name, ": no memory for ", padded, " bytes");
  return {integers_.back().second.get(), dtype, Device::kCpu, shape};
}

void Arena::populate(const std::stop_token& stop) const {
  constexpr int64_t kPortion = int64_t{64} << 20;
  const int64_t bytes = used_bytes_;
  const bool has_memory = base_ && source_ != MemorySource::kNone;
  for (int64_t at = 0; has_memory && at < bytes && !stop.stop_requested(); at += kPortion) {
    // A kernel that cannot do it takes them later.
    madvise(static_cast<char*>(base_) + at, static_cast<size_t>(std::min(kPortion, bytes - at)), MADV_POPULATE_WRITE);
  }
}

void Arena::release(int64_t mark) {
  INVARIANT(mark >= 0 && mark <= used_bytes_, "arena ", name_, ": release to ", mark, " of ", used_bytes_);
  if (source_ == MemorySource::kNone) {
    uncount(mark);
    return;
  }
#if !defined(NDEBUG)
  if (base_) std::memset(static_cast<char*>(base_) + mark, 0xff, static_cast<size_t>(used_bytes_ - mark));
#endif
  used_bytes_ = mark;
}

void Arena::uncount(int64_t mark) {
  if (used_bytes_ == mark) return;
  if (peak_is_now_) peak_ = counted_;
  peak_is_now_ = false;
  while (used_bytes_ > mark) {
    used_bytes_ -= counted_.back().bytes;
    counted_.pop_back();
  }
  while (!integers_.empty() && integers_.back().first >= mark) integers_.pop_back();
}

}  // namespace sluice
