#include "parallel/mpi_exchange.h"

#include <algorithm>
#include <set>
#include <utility>

#include "parallel/mpi_call.h"
#include "parallel/mpi_channels.h"

namespace sluice {
namespace {

// Counts of MPI are ints; messages above this travel in pieces.
constexpr int64_t kPieceBytes = int64_t{1} << 30;
constexpr int kTag = 1;

/// Calls body(data, bytes) for the pieces of a message: one at least, so that one side that has nothing is noticed.
template <class Body>
void for_each_piece(const Message& message, const Body& body) {
  for (int64_t at = 0; at == 0 || at < message.bytes; at += kPieceBytes) {
    body(message.data + at, static_cast<int>(std::min(kPieceBytes, message.bytes - at)));
  }
}

}  // namespace

MpiExchange::MpiExchange(MPI_Comm comm, int rank, std::string group, const std::vector<Message>& sends,
                         const std::vector<Message>& receives)
    : comm_(comm), rank_(rank), group_(std::move(group)) {
  for (const Message& message : sends) {
    for_each_piece(message, [&](char* data, int bytes) {
      requests_.emplace_back();
      MPI_CALL(MPI_Isend(data, bytes, MPI_BYTE, message.rank, kTag, comm_, &requests_.back()));
    });
  }
  for (const Message& message : receives) {
    for_each_piece(message, [&](char* data, int bytes) { expected_.push_back({message.rank, data, bytes}); });
  }
}

bool MpiExchange::begin_receive(const Piece& piece) {
  int there = 0, bytes = 0;
  MPI_Message incoming = MPI_MESSAGE_NULL;
  MPI_Status status;
  MPI_CALL(MPI_Improbe(piece.rank, kTag, comm_, &there, &incoming, &status));
  if (!there) return false;
  MPI_CALL(MPI_Get_count(&status, MPI_BYTE, &bytes));
  check_sent(group_, piece.rank, bytes, rank_, piece.bytes);
  requests_.emplace_back();
  MPI_CALL(MPI_Imrecv(piece.data, piece.bytes, MPI_BYTE, &incoming, &requests_.back()));
  return true;
}

bool MpiExchange::done() {
  std::set<int> awaited;
  std::erase_if(expected_, [&](const Piece& piece) {
    if (awaited.contains(piece.rank)) return false;
    if (begin_receive(piece)) return true;
    awaited.insert(piece.rank);
    return false;
  });
  int all = 0;
  MPI_CALL(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &all, MPI_STATUSES_IGNORE));
  return all && expected_.empty();
}

}  // namespace sluice
