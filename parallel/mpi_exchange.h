#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <mpi.h>

namespace sluice {

/// Bytes to or from a rank of a communicator.
struct Message {
  int rank;
  char* data;
  int64_t bytes;
};

/// Messages of a rank on their way, sends and receives all at once. Sizes are looked at before anything is received:
/// what a message that is too long does to a receive differs between transports.
class MpiExchange {
 public:
  /// Begins. `group` names the communicator, in which this is rank `rank`, in errors.
  MpiExchange(MPI_Comm comm, int rank, std::string group, const std::vector<Message>& sends,
              const std::vector<Message>& receives);
  /// One of MPI's own collectives, already begun.
  explicit MpiExchange(MPI_Request request) : requests_{request} {}
  MpiExchange(const MpiExchange&) = delete;
  MpiExchange& operator=(const MpiExchange&) = delete;

  /// Whether all has arrived and left; never blocks. Throws CountMismatch, and Error when MPI fails.
  bool done();

 private:
  /// Part of a message: counts of MPI are ints.
  struct Piece {
    int rank;
    char* data;
    int bytes;
  };
  bool begin_receive(const Piece& piece);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  std::string group_;
  std::vector<Piece> expected_;  // not there yet; those of a rank in order
  std::vector<MPI_Request> requests_;
};

}  // namespace sluice
