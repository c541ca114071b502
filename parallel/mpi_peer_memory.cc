#include "parallel/mpi_peer_memory.h"

#include <algorithm>
#include <sys/uio.h>
#include <unistd.h>

#include "parallel/mpi_call.h"

namespace sluice {
namespace {

// Pieces a call to the kernel; it takes 1024.
constexpr size_t kPieces = 64;

/// Bytes read of the first kPieces, `done` bytes of the first of them being there already; -1 when that is not
/// possible.
ssize_t read_some(int32_t process, std::span<const MpiPeerMemory::Piece> pieces, int64_t done) {
  iovec local[kPieces], remote[kPieces];
  const size_t n = std::min(pieces.size(), kPieces);
  for (size_t i = 0; i < n; ++i) {
    const size_t skip = i == 0 ? static_cast<size_t>(done) : 0, bytes = static_cast<size_t>(pieces[i].bytes) - skip;
    local[i] = {static_cast<char*>(pieces[i].to) + skip, bytes};
    remote[i] = {static_cast<char*>(const_cast<void*>(pieces[i].from)) + skip, bytes};
  }
  return process_vm_readv(process, local, n, remote, n, 0);
}

}  // namespace

MpiPeerMemory::MpiPeerMemory(MPI_Comm comm, int rank, int size) : processes_(static_cast<size_t>(size)) {
  // What each shows the others: a number that only its own memory has.
  struct Card {
    int64_t process;
    const void* address;
    int64_t number;
  };
  const int64_t number = getpid() * int64_t{1'000'003} + rank;
  const Card own = {getpid(), &number, number};
  std::vector<Card> cards(processes_.size());
  MPI_CALL(MPI_Allgather(&own, sizeof own, MPI_BYTE, cards.data(), sizeof own, MPI_BYTE, comm));
  int all = 1;
  for (size_t r = 0; r < cards.size(); ++r) {
    int64_t seen = 0;
    processes_[r] = static_cast<int32_t>(cards[r].process);
    const Piece number_of_rank[] = {{cards[r].address, &seen, sizeof seen}};
    if (read_some(processes_[r], number_of_rank, 0) != sizeof seen || seen != cards[r].number) all = 0;
  }
  // Also keeps `number` where it is until all have looked.
  MPI_CALL(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, comm));
  if (!all) processes_.clear();
}

void MpiPeerMemory::read(int rank, std::span<const Piece> pieces) const {
  int64_t done = 0;  // bytes of the first piece left
  for (;;) {
    while (!pieces.empty() && done >= pieces.front().bytes) {
      done -= pieces.front().bytes;
      pieces = pieces.subspan(1);
    }
    if (pieces.empty()) return;
    const ssize_t n = read_some(processes_[static_cast<size_t>(rank)], pieces, done);
    INVARIANT(n > 0, "memory of rank ", rank, " (process ", processes_[static_cast<size_t>(rank)], ") cannot be read");
    done += n;
  }
}

}  // namespace sluice
