#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/tensor.h"

namespace sluice {

/// Where an arena's block comes from.
enum class MemorySource {
  kNone,       ///< none, what a planner uses: only integers have memory, since the host reads counts and offsets
  kPages,      ///< anonymous pages; enough for what is only copied through
  kHugePages,  ///< anonymous pages, huge where the kernel has them
};

/// One block of memory, given out from its beginning and taken back in reverse order. Keeps the high-water mark and
/// which allocation reached it. Where the system reserves less than the capacity asked for, the capacity is less.
class Arena {
 public:
  static constexpr int64_t kAlignmentBytes = 64;

  Arena(std::string name, MemorySource source, int64_t capacity_bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// A tensor of undefined contents. Throws Error naming the arena and the allocation when it does not fit.
  Tensor alloc(std::string_view name, DType dtype, Shape shape);

  /// The current level, for release(): everything allocated after mark() is given back.
  int64_t mark() const { return used_bytes_; }
  void release(int64_t mark);

  /// Takes the pages of what is allocated now, which would otherwise cost the first use of each, until `stop` asks not
  /// to; from any thread.
  void populate(const std::stop_token& stop = {}) const;

  const std::string& name() const { return name_; }
  int64_t used_bytes() const { return used_bytes_; }
  int64_t high_water_bytes() const { return high_water_bytes_; }
  const std::string& high_water_name() const { return high_water_name_; }
  MemorySource source() const { return source_; }

  struct Allocation {
    std::string name;
    int64_t bytes;
  };
  /// What was allocated when the high-water mark was reached, if there is no memory; else empty.
  const std::vector<Allocation>& peak() const { return peak_is_now_ ? counted_ : peak_; }

  int64_t capacity_bytes() const { return capacity_bytes_; }
  void* base() const { return base_; }

 private:
  // alloc() and release() without memory.
  Tensor count(std::string_view name, int64_t padded, DType dtype, Shape shape);
  void uncount(int64_t mark);

  std::string name_;
  MemorySource source_;
  int64_t capacity_bytes_;
  void* base_ = nullptr;
  int64_t used_bytes_ = 0;
  int64_t high_water_bytes_ = 0;
  std::string high_water_name_;
  // Without memory: what is allocated, and the memory of the integers among it.
  std::vector<Allocation> counted_, peak_;
  bool peak_is_now_ = false;
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::vector<std::pair<int64_t, std::unique_ptr<void, Free>>> integers_;
};

/// Gives back what is allocated from an arena in a scope.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  int64_t mark_;
};

}  // namespace sluice
