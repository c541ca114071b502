#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include <mpi.h>

#include "kernels/core/dtype.h"
#include "parallel/mpi_peer_memory.h"
#include "parallel/mpi_session.h"

namespace sluice {

/// Memory that the ranks of a communicator share when they all run on one node. Collectives there cost a few copies in
/// the cache instead of messages. What is small goes through in pieces: each rank writes its own and reads the others'.
/// Pieces alternate between two slots, so that one meeting a piece is enough: who writes a slot again has met all ranks
/// after they read it. What is large the ranks read from where the others have it, if they may.
class MpiWindow {
 public:
  /// Collective. Stays closed when the ranks are on several nodes, or when messages are asked for.
  MpiWindow(MPI_Comm comm, int rank, int size, MpiTransport transport);
  /// Collective. Must come before the communicator is freed.
  void close();

  bool open() const { return window_ != MPI_WIN_NULL; }
  /// The memory of the other ranks, null where it cannot be read.
  const MpiPeerMemory* peers() const { return peers_ && peers_->open() ? &*peers_ : nullptr; }

  /// data [n] becomes the sum or maximum over ranks in rank order; collective, as all below.
  void all_reduce(DType dtype, ReduceOp op, int64_t n, char* data);
  /// in [size * n] -> out [n], the sum over ranks of block `rank`; out may be that block.
  void reduce_scatter(DType dtype, int64_t n, const char* in, char* out);
  /// in -> out, `bytes` of every rank in rank order; in may be its own block of out.
  void all_gather(int64_t bytes, const char* in, char* out);

 private:
  /// Where a rank says how often it has come, and at which address it has what the others read.
  struct alignas(64) Arrival {
    std::atomic<uint64_t> times{0};
    const char* data = nullptr;
  };
  bool direct(int64_t bytes) const;
  /// Meets the others, and tells them where this rank's data lies.
  void show(const char* data);
  /// out [n] becomes the sum or maximum over ranks of the n elements at `offset` bytes from what each has shown.
  void combine_shown(DType dtype, ReduceOp op, int64_t offset, int64_t n, char* out);
  char* slot(int rank) const;
  /// Everything that any rank wrote before is seen by all after.
  void meet();
  void next_piece() { ++piece_; }

  MPI_Comm comm_;
  int rank_, size_;
  std::optional<MpiPeerMemory> peers_;
  bool crowded_ = false;  ///< more ranks on the node than cores
  MPI_Win window_ = MPI_WIN_NULL;
  Arrival* arrivals_ = nullptr;  ///< [size]
  char* base_ = nullptr;         ///< of the slots
  uint64_t meetings_ = 0, piece_ = 0;
  std::vector<const void*> terms_;
  std::vector<char> scratch_;
};

}  // namespace sluice
