#pragma once

#include <mpi.h>

#include "parallel/mpi_session.h"

namespace sluice {

/// Memory that the ranks of a communicator share when they all run on one node: reductions there cost a few copies
/// instead of messages.
class MpiWindow {
 public:
  /// Collective. Stays closed when the ranks are on several nodes, or when messages are asked for.
  MpiWindow(MPI_Comm comm, int rank, int size, MpiTransport transport);
  /// Collective. Must come before the communicator is freed.
  void close();

  bool open() const { return window_ != MPI_WIN_NULL; }
  /// Bytes that one operation may have.
  static constexpr int64_t capacity_bytes() { return int64_t{2} << 20; }

  /// data [n] becomes the sum or maximum over ranks in rank order; collective.
  void all_reduce(DType dtype, ReduceOp op, int64_t n, char* data);

 private:
  char* part(int rank) const { return base_ + rank * capacity_bytes(); }
  /// Everything that any rank wrote before is seen by all after.
  void meet();

  MPI_Comm comm_;
  int rank_, size_;
  MPI_Win window_ = MPI_WIN_NULL;
  char* base_ = nullptr;  ///< size_ parts of capacity_bytes()
};

}  // namespace sluice
