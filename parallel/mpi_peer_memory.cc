#include "parallel/mpi_peer_memory.h"

#include <sys/uio.h>
#include <unistd.h>

#include "parallel/mpi_call.h"

namespace sluice {
namespace {

/// Bytes read, -1 when that is not possible.
ssize_t read_some(int32_t process, const void* from, void* to, int64_t bytes) {
  const iovec local = {to, static_cast<size_t>(bytes)}, remote = {const_cast<void*>(from), static_cast<size_t>(bytes)};
  return process_vm_readv(process, &local, 1, &remote, 1, 0);
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
    if (read_some(processes_[r], cards[r].address, &seen, sizeof seen) != sizeof seen || seen != cards[r].number)
      all = 0;
  }
  // Also keeps `number` where it is until all have looked.
  MPI_CALL(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, comm));
  if (!all) processes_.clear();
}

void MpiPeerMemory::read(int rank, const void* from, void* to, int64_t bytes) const {
  for (int64_t at = 0; at < bytes;) {
    const ssize_t n = read_some(processes_[static_cast<size_t>(rank)], static_cast<const char*>(from) + at,
                                static_cast<char*>(to) + at, bytes - at);
    INVARIANT(n > 0, "memory of rank ", rank, " (process ", processes_[static_cast<size_t>(rank)], ") cannot be read");
    at += n;
  }
}

}  // namespace sluice
