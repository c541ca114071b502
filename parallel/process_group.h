#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/core/stream.h"

namespace sluice {

/// Order in which the terms of a floating-point sum are added.
enum class SumOrder {
  kOrdered,  ///< rank 0 + rank 1 + ...: the same bits on every rank, machine and message size
  kNative,   ///< whatever the library does; repeatable on the same nodes only
};

enum class ReduceOp { kSum, kMax };

/// Ranks that communicate. Every member calls the same operations in the same order with matching counts. Counts are
/// elements (int64, no limit at 2^31). Buffers stay valid and untouched until the returned Event is waited for.
/// A group of one is the identity. Throws Error when the transport fails or counts do not match a buffer.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }

  /// x [n] f32 | f64 | i32 | i64 becomes the sum or maximum over ranks, in place. Integers are exact.
  virtual Event all_reduce(Tensor x, ReduceOp op = ReduceOp::kSum, SumOrder order = SumOrder::kOrdered) = 0;
  /// in [size * n] -> out [n]: the sum over ranks of block `rank`. out may be that block of `in`.
  virtual Event reduce_scatter(Tensor in, Tensor out, SumOrder order = SumOrder::kOrdered) = 0;
  /// in [n] -> out [size * n] in rank order. in may be block `rank` of out.
  virtual Event all_gather(Tensor in, Tensor out) = 0;
  /// Rows of `in` in rank order of their destination -> rows of `out` in rank order of their source. The counts are
  /// rows to and from each rank, known to both sides; zero is allowed.
  virtual Event all_to_all(Tensor in, std::span<const int64_t> send_rows, Tensor out,
                           std::span<const int64_t> receive_rows) = 0;
  virtual Event broadcast(Tensor x, int root) = 0;
  virtual Event send(Tensor x, int to) = 0;
  virtual Event receive(Tensor x, int from) = 0;
  virtual void barrier() = 0;
  /// Splits by color; ranks of a color are ordered by key. Every member calls it.
  virtual std::unique_ptr<ProcessGroup> split(int color, int key, const std::string& name) = 0;

 protected:
  ProcessGroup(int rank, int size, std::string name) : rank_(rank), size_(size), name_(std::move(name)) {}

 private:
  int rank_;
  int size_;
  std::string name_;
};

}  // namespace sluice
