#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

#include "kernels/core/tensor.h"

namespace sluice {

/// Rows of a tensor that lie together and go to, or come from, one rank.
struct RowRun {
  int64_t rank = 0, begin = 0, rows = 0;
};

/// The rows of a tensor that belong to one rank, run after run, as one stream of bytes.
class RowStream {
 public:
  RowStream(Tensor t, std::span<const RowRun> runs, int rank) : data_(static_cast<char*>(t.data)), runs_(runs) {
    row_bytes_ = dtype_bytes(t.dtype);
    for (int i = 1; i < t.shape.rank(); ++i) row_bytes_ *= t.dim(i);
    for (const RowRun& run : runs) left_ += run.rank == rank ? run.rows * row_bytes_ : 0;
    rank_ = rank;
    settle();
  }

  /// Bytes to come.
  int64_t left() const { return left_; }
  /// Those of them that lie together.
  char* next() const { return data_ + runs_[run_].begin * row_bytes_ + at_; }
  int64_t together() const { return left_ == 0 ? 0 : runs_[run_].rows * row_bytes_ - at_; }
  void skip(int64_t bytes) {
    at_ += bytes;
    left_ -= bytes;
    settle();
  }

 private:
  /// Goes on to the run that the next byte lies in.
  void settle() {
    while (left_ > 0 && (runs_[run_].rank != rank_ || at_ == runs_[run_].rows * row_bytes_)) ++run_, at_ = 0;
  }

  char* data_;
  std::span<const RowRun> runs_;
  int rank_ = 0;
  int64_t row_bytes_ = 0, left_ = 0, at_ = 0;
  size_t run_ = 0;
};

/// Copies `bytes` of a stream to or from contiguous memory.
inline void take(RowStream& from, char* to, int64_t bytes) {
  while (bytes > 0) {
    const int64_t n = std::min(bytes, from.together());
    std::memcpy(to, from.next(), static_cast<size_t>(n));
    from.skip(n);
    to += n;
    bytes -= n;
  }
}
inline void put(const char* from, RowStream& to, int64_t bytes) {
  while (bytes > 0) {
    const int64_t n = std::min(bytes, to.together());
    std::memcpy(to.next(), from, static_cast<size_t>(n));
    to.skip(n);
    from += n;
    bytes -= n;
  }
}
/// Copies all of one stream to another of the same length.
inline void copy(RowStream from, RowStream to) {
  while (from.left() > 0) {
    const int64_t n = std::min(from.together(), to.together());
    std::memcpy(to.next(), from.next(), static_cast<size_t>(n));
    from.skip(n);
    to.skip(n);
  }
}

}  // namespace sluice
