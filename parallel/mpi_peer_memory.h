#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <mpi.h>

namespace sluice {

/// Reads the memory of the other ranks of a communicator on one node, where the system lets processes do that: what is
/// large then moves once, instead of in and out of memory that both share.
class MpiPeerMemory {
 public:
  /// Collective. Stays closed unless every rank can read every other.
  MpiPeerMemory(MPI_Comm comm, int rank, int size);

  bool open() const { return !processes_.empty(); }
  /// Bytes from which on reading makes up for the calls to the kernel.
  static constexpr int64_t kWorthwhileBytes = int64_t{1} << 20;

  /// Bytes of another rank and where they are to go.
  struct Piece {
    const void* from;
    void* to;
    int64_t bytes;
  };
  /// Throws Error (internal) when a rank has ended.
  void read(int rank, std::span<const Piece> pieces) const;
  void read(int rank, const void* from, void* to, int64_t bytes) const { read(rank, {{{from, to, bytes}}}); }

 private:
  std::vector<int32_t> processes_;  ///< of each rank; empty when closed
};

}  // namespace sluice
